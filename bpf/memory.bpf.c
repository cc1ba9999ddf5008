// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Executable memory, files that live in memory, and the memory of other processes. */
#include <vmlinux.h>
#include "area.h"
#include "call.h"
#include "emit.h"
#include "path.h"

#define EBADF 9

#define PROT_READ 0x1
#define PROT_WRITE 0x2
#define PROT_EXEC 0x4
#define PROT_ALL (PROT_READ | PROT_WRITE | PROT_EXEC)
#define MAP_ANONYMOUS 0x20

/* What the kernel puts in front of the name that memfd_create(2) is given. */
#define MEMFD_PREFIX (sizeof("memfd:") - 1)
/* The longest name of a file, with its NUL. */
#define MEMFD_NAME_BYTES 256

/* Tracees of one thread that are looked at; of others only the number is known. */
#define TRACEES 8

#define PTRACE_TRACEME 0
#define PTRACE_POKETEXT 4
#define PTRACE_POKEDATA 5
#define PTRACE_POKEUSR 6
#define PTRACE_SETREGS 13
#define PTRACE_SETFPREGS 15
#define PTRACE_ATTACH 16
#define PTRACE_SETFPXREGS 19
#define PTRACE_SETREGSET 0x4205
#define PTRACE_SEIZE 0x4206
#define PTRACE_SET_SYSCALL_INFO 0x4212

/* What a range of memory was before mprotect(2). */
struct protected_area {
	/* The struct file that is mapped there, or 0. */
	__u64 file;
	__u32 protection;
	__u32 region;
};

/* Calls that make memory executable and have not come back yet, by thread. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct protected_area);
} mprotects_under_way SEC(".maps");

static __always_inline bool maps_code(const struct arguments *passed)
{
	if (passed->third & PROT_WRITE)
		return true;
	return !(passed->fourth & MAP_ANONYMOUS) && (int)passed->fifth >= 0;
}

static __always_inline void fill_mapped_file(struct mmap_event *mmap, int fd)
{
	struct file *file = file_of(fd);

	if (!file) {
		/* Never open, or closed by another thread before we looked. */
		mmap->path.leaf_first.error = -EBADF;
		return;
	}
	fill_file(scratch_of(mmap), &mmap->file, &mmap->version, BPF_CORE_READ(file, f_inode));
	append_file_path(mmap, &mmap->path, file);
}

static __always_inline int mapped(long result, const struct arguments *passed)
{
	struct mmap_event *mmap;

	if (!maps_code(passed))
		return 0;
	mmap = emit_reserve(EVENT_MMAP, sizeof(*mmap));
	if (!mmap)
		return 0;
	mmap->event.result = result < 0 ? result : 0;
	mmap->address = result < 0 ? passed->first : (__u64)result;
	mmap->length = passed->second;
	mmap->protection = passed->third;
	mmap->flags = passed->fourth;
	if (!(passed->fourth & MAP_ANONYMOUS))
		fill_mapped_file(mmap, passed->fifth);
	emit_submit(mmap, EVENT_MMAP);
	return 0;
}

/* long mmap(unsigned long addr, unsigned long len, unsigned long prot, unsigned long flags, unsigned long fd, unsigned long off) */
static __always_inline int ended_mmap(long result)
{
	struct arguments passed;

	/* Nearly all calls map data and end here. */
	if (!(ARGUMENT(REGISTER_ARG3) & PROT_EXEC))
		return 0;
	read_arguments(&passed);
	return mapped(result, &passed);
}

SEC("tp/syscalls/sys_exit_mmap")
int exit_mmap(struct trace_event_raw_sys_exit *context)
{
	return ended_mmap(context->ret);
}

SEC("fexit/" FUNCTION "mmap")
int end_mmap(__u64 *context)
{
	return ended_mmap(context[1]);
}

/* long mmap2(unsigned long addr, unsigned long len, unsigned long prot, unsigned long flags, unsigned long fd, unsigned long pgoff) */
AFTER_32(mmap2, sys_mmap_pgoff)
{
	return passed->third & PROT_EXEC ? mapped(result, passed) : 0;
}

/* struct mmap_arg_struct32, which not all kernels have in their BTF. */
struct passed_in_memory {
	__u32 address;
	__u32 length;
	__u32 protection;
	__u32 flags;
	__u32 fd;
};

/* long mmap(struct mmap_arg_struct32 *arg) */
AFTER_32(mmap, compat_sys_ia32_mmap)
{
	struct passed_in_memory read = {};
	struct arguments same;

	bpf_probe_read_user(&read, sizeof(read), (void *)passed->first);
	same.first = read.address;
	same.second = read.length;
	same.third = read.protection;
	same.fourth = read.flags;
	same.fifth = read.fd;
	return after_mmap2(result, &same);
}

/* Heap and stack as in /proc/PID/maps. */
static __always_inline __u32 region_of(const struct area *area, struct mm_struct *mm)
{
	__u64 stack;

	if (area->file)
		return REGION_FILE;
	if (area->start < BPF_CORE_READ(mm, brk) && area->end > BPF_CORE_READ(mm, start_brk))
		return REGION_HEAP;
	stack = BPF_CORE_READ(mm, start_stack);
	return area->start <= stack && area->end >= stack ? REGION_STACK : REGION_ANONYMOUS;
}

/* The path is walked when the call returns: it may split the area, but the file stays. */
static __always_inline int remember_area(__u64 address)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 thread = bpf_get_current_pid_tgid();
	struct protected_area before = { .protection = ~0U };
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	struct area area;

	if (look_at_area(&area, mm, address)) {
		before.file = (__u64)area.file;
		before.protection = area.flags & PROT_ALL;
		before.region = region_of(&area, mm);
	}
	bpf_map_update_elem(&mprotects_under_way, &thread, &before, BPF_ANY);
	return 0;
}

static __always_inline int protecting(const struct arguments *passed)
{
	/* Nearly all calls end here. */
	return passed->third & PROT_EXEC ? remember_area(passed->first) : 0;
}

/* Takes what remember_area() left. */
static __always_inline void fill_area(struct mprotect_event *mprotect)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct protected_area *before = bpf_map_lookup_elem(&mprotects_under_way, &thread);

	mprotect->old_protection = ~0U;
	if (!before)
		return;
	mprotect->old_protection = before->protection;
	mprotect->region = before->region;
	if (before->file)
		append_file_path(mprotect, &mprotect->path, (struct file *)before->file);
	bpf_map_delete_elem(&mprotects_under_way, &thread);
}

static __always_inline int protected(long result, const struct arguments *passed)
{
	struct mprotect_event *mprotect;

	if (!(passed->third & PROT_EXEC))
		return 0;
	mprotect = emit_reserve(EVENT_MPROTECT, sizeof(*mprotect));
	if (!mprotect)
		return 0;
	mprotect->event.result = result;
	mprotect->address = passed->first;
	mprotect->length = passed->second;
	mprotect->protection = passed->third;
	fill_area(mprotect);
	emit_submit(mprotect, EVENT_MPROTECT);
	return 0;
}

/* long mprotect(unsigned long start, size_t len, unsigned long prot) */
BEFORE(mprotect, sys_mprotect)
{
	return protecting(passed);
}

AFTER(mprotect, sys_mprotect)
{
	return protected(result, passed);
}

/* long pkey_mprotect(unsigned long start, size_t len, unsigned long prot, int pkey) */
BEFORE(pkey_mprotect, sys_pkey_mprotect)
{
	return protecting(passed);
}

AFTER(pkey_mprotect, sys_pkey_mprotect)
{
	return protected(result, passed);
}

static __always_inline struct memfd_event *reserve_memfd(long result, __u32 flags)
{
	struct memfd_event *memfd = emit_reserve(EVENT_MEMFD, sizeof(*memfd));

	if (!memfd)
		return NULL;
	memfd->event.result = result;
	memfd->flags = flags;
	memfd->fd = result < 0 ? -1 : result;
	return memfd;
}

/* long memfd_create(const char *uname, unsigned int flags) */
AFTER(memfd_create, sys_memfd_create)
{
	struct memfd_event *memfd;
	struct file *file;

	memfd = reserve_memfd(result, passed->second);
	if (!memfd)
		return 0;
	file = file_of(result);
	if (file)
		append_string(memfd, &memfd->name,
			      BPF_CORE_READ(file, f_path.dentry, d_name.name) + MEMFD_PREFIX,
			      MEMFD_NAME_BYTES, false);
	else
		append_string(memfd, &memfd->name, (void *)passed->first, MEMFD_NAME_BYTES, true);
	emit_submit(memfd, EVENT_MEMFD);
	return 0;
}

/* long memfd_secret(unsigned int flags) */
AFTER(memfd_secret, sys_memfd_secret)
{
	struct memfd_event *memfd = reserve_memfd(result, passed->first);

	if (!memfd)
		return 0;
	memfd->secret = 1;
	emit_submit(memfd, EVENT_MEMFD);
	return 0;
}

/*
 * Requests that give power over a process, or change what it does. The others look at it
 * or let it run on: a debugger makes thousands of them, and each needs one of these first.
 */
static __always_inline bool takes_control(__u64 request)
{
	const __u64 small = 1ULL << PTRACE_TRACEME | 1ULL << PTRACE_POKETEXT |
			    1ULL << PTRACE_POKEDATA | 1ULL << PTRACE_POKEUSR |
			    1ULL << PTRACE_SETREGS | 1ULL << PTRACE_SETFPREGS |
			    1ULL << PTRACE_ATTACH | 1ULL << PTRACE_SETFPXREGS;

	if (request < 64)
		return (small >> request) & 1;
	return request == PTRACE_SETREGSET || request == PTRACE_SEIZE ||
	       request == PTRACE_SET_SYSCALL_INFO;
}

/* The number of a task in the pid namespace of this level. */
static __always_inline __u32 number_at(struct task_struct *task, __u32 level)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	__u32 number = 0;

	bpf_core_read(&number, sizeof(number), &pid->numbers[level].nr);
	return number;
}

/* The task that the current thread traces under this number, the newest first. */
static __always_inline struct task_struct *tracee(__u32 number)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct list_head *head = __builtin_preserve_access_index(&task->ptraced);
	struct list_head *entry = BPF_CORE_READ(head, next);
	__u32 level = BPF_CORE_READ(task, thread_pid, level);

	for (int seen = 0; seen < TRACEES && entry && entry != head; seen++) {
		struct task_struct *found = container_of(entry, struct task_struct, ptrace_entry);

		if (number_at(found, level) == number)
			return found;
		entry = BPF_CORE_READ(entry, next);
	}
	return NULL;
}

static __always_inline void fill_other(struct other *to, struct task_struct *task)
{
	to->pid = BPF_CORE_READ(task, tgid);
	to->start_time = BPF_CORE_READ(task, group_leader, start_boottime);
}

static __always_inline void fill_traced(struct ptrace_event *ptrace)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct task_struct *found;

	/* Its parent becomes the tracer. */
	if (ptrace->request == PTRACE_TRACEME)
		found = BPF_CORE_READ(task, real_parent);
	else
		found = tracee(ptrace->target.passed_pid);
	if (found)
		fill_other(&ptrace->target, found);
}

/* long ptrace(long request, long pid, unsigned long addr, unsigned long data) */
AFTER(ptrace, compat_sys_ptrace)
{
	struct ptrace_event *ptrace;

	if (result >= 0 && !takes_control(passed->first))
		return 0;
	ptrace = emit_reserve(EVENT_PTRACE, sizeof(*ptrace));
	if (!ptrace)
		return 0;
	ptrace->event.result = result;
	ptrace->request = passed->first;
	ptrace->target.passed_pid = passed->second;
	ptrace->address = passed->third;
	ptrace->data = passed->fourth;
	fill_traced(ptrace);
	emit_submit(ptrace, EVENT_PTRACE);
	return 0;
}

/* The call keeps no kernel object of the other process. */
static __always_inline int accessed(long result, const struct arguments *passed, __u32 kind)
{
	struct vm_event *vm = emit_reserve(kind, sizeof(*vm));

	if (!vm)
		return 0;
	vm->event.result = result;
	vm->target.passed_pid = passed->first;
	vm->flags = passed->sixth;
	/* struct iovec starts with the address. */
	if (passed->fifth)
		read_pointer(&vm->address, passed, (void *)passed->fourth);
	emit_submit(vm, kind);
	return 0;
}

/* long process_vm_readv(pid_t pid, const struct iovec *lvec, unsigned long liovcnt, const struct iovec *rvec, unsigned long riovcnt, unsigned long flags) */
AFTER(process_vm_readv, sys_process_vm_readv)
{
	return accessed(result, passed, EVENT_VM_READ);
}

/* long process_vm_writev(pid_t pid, const struct iovec *lvec, unsigned long liovcnt, const struct iovec *rvec, unsigned long riovcnt, unsigned long flags) */
AFTER(process_vm_writev, sys_process_vm_writev)
{
	return accessed(result, passed, EVENT_VM_WRITE);
}

/* long userfaultfd(int flags) */
AFTER(userfaultfd, sys_userfaultfd)
{
	struct userfaultfd_event *event = emit_reserve(EVENT_USERFAULTFD, sizeof(*event));

	if (!event)
		return 0;
	event->event.result = result;
	event->flags = passed->first;
	emit_submit(event, EVENT_USERFAULTFD);
	return 0;
}
