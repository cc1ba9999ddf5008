// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Files: open and its siblings, seen when the call returns. */
#include <vmlinux.h>
#include <bpf/bpf_tracing.h>
#include "aggregate.h"
#include "call.h"
#include "emit.h"
#include "path.h"

#define O_ACCMODE 03
#define O_CREAT 0100
#define O_EXCL 0200
#define O_NOCTTY 0400
#define O_TRUNC 01000
#define O_CLOEXEC 02000000
/* What the call says and the open file need not keep. */
#define O_PASSED (O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC)
#define FMODE_CREATED 0x100000

/* What is looked at before it is known whether the open is worth a record. */
struct opened_file {
	struct vfsmount *mount;
	struct dentry *dentry;
	struct inode *inode;
	__u64 inode_number;
	__u32 name_hash;
	__u32 flags;
	__u32 mode;
	__u32 reserved;
};

/* @file is one that the verifier knows. */
static __always_inline void look_at(struct opened_file *to, struct file *file)
{
	to->mount = LOADED(file, f_path.mnt);
	to->dentry = LOADED(file, f_path.dentry);
	to->inode = LOADED(file, f_inode);
	to->inode_number = LOADED(file, f_inode, i_ino);
	to->name_hash = LOADED(file, f_path.dentry, d_name.hash);
	to->flags = LOADED(file, f_flags);
	to->mode = LOADED(file, f_mode);
}

/* @file is any other. A function of its own, so that its stack is free again for what follows. */
static __noinline void peek_at(struct opened_file *to, struct file *file)
{
	struct peek start;
	struct dentry *dentry;
	struct inode *inode;

	peek(&start, file);
	dentry = PEEKED(&start, file, f_path.dentry);
	inode = PEEKED(&start, file, f_inode);
	to->mount = PEEKED(&start, file, f_path.mnt);
	to->dentry = dentry;
	to->inode = inode;
	to->name_hash = BPF_CORE_READ(dentry, d_name.hash);
	to->inode_number = BPF_CORE_READ(inode, i_ino);
	to->flags = PEEKED(&start, file, f_flags);
	to->mode = PEEKED(&start, file, f_mode);
}

/* How many descriptors lie in struct files_struct itself. */
#define FDS_INSIDE(task) (bpf_core_field_size((task)->files->fd_array) / sizeof(struct file *))

#define KNOWN_FILE(fd)                                    \
	case fd:                                          \
		file = LOADED(task, files, fd_array[fd]); \
		break;

/*
 * The files of the lowest descriptors, while the task has no more than lie in its struct
 * files_struct: these the verifier knows, if they are asked for by constants.
 */
static __always_inline struct file *known_file(struct task_struct *task, long fd)
{
	struct file *file = NULL;

	if (LOADED(task, files, fdt, max_fds) != FDS_INSIDE(task))
		return NULL;
	switch (fd) {
		KNOWN_FILE(0)
		KNOWN_FILE(1)
		KNOWN_FILE(2)
		KNOWN_FILE(3)
		KNOWN_FILE(4)
		KNOWN_FILE(5)
		KNOWN_FILE(6)
		KNOWN_FILE(7)
		KNOWN_FILE(8)
		KNOWN_FILE(9)
		KNOWN_FILE(10)
		KNOWN_FILE(11)
		KNOWN_FILE(12)
		KNOWN_FILE(13)
		KNOWN_FILE(14)
		KNOWN_FILE(15)
	}
	return file;
}

/* False when there is no such descriptor; @often: looks for known files, which the verifier follows long. */
static __always_inline bool look_at_fd(struct opened_file *to, struct task_struct *task, long fd,
				       bool often)
{
	struct file *file;

	if (often && HAS_TYPED_TASK) {
		file = known_file(task, fd);
		if (file) {
			look_at(to, file);
			return true;
		}
	}
	file = file_of_quickly(fd);
	if (!file)
		return false;
	peek_at(to, file);
	return true;
}

/* Whether user space wants to know of this failure. */
static __always_inline bool is_failure_wanted(struct settings *now, long error)
{
	if (now->failed_opens != FAILED_OPENS_DENIED)
		return now->failed_opens == FAILED_OPENS_ALL;
	return error == -EPERM || error == -EACCES || error == -EROFS || error == -ETXTBSY ||
	       error == -ELOOP;
}

static __always_inline bool only_reads(const struct opened_file *file)
{
	return !(file->flags & (O_ACCMODE | O_CREAT | O_TRUNC)) && !(file->mode & FMODE_CREATED);
}

#define FILL_KEY(READ, key, task)                                             \
	do {                                                                  \
		(key)->start_time = READ(task, group_leader, start_boottime); \
		(key)->pid = READ(task, tgid);                                \
		(key)->exec_id = READ(task, self_exec_id);                    \
		(key)->euid = READ(task, cred, euid.val);                     \
	} while (0)

static __always_inline void fill_key(struct open_key *key, struct task_struct *task,
				     const struct opened_file *file)
{
	if (HAS_TYPED_TASK)
		FILL_KEY(LOADED, key, task);
	else
		FILL_KEY(BPF_CORE_READ, key, task);
	key->dentry = (__u64)file->dentry;
	key->inode = file->inode_number;
	key->name_hash = file->name_hash;
}

/* What a hook knows of an open. */
struct attempt {
	long result;
	/* In the caller's memory, or in the kernel's. */
	const char *name;
	__u32 kernel_name;
	__u32 asked;
	/* One that the verifier knows; NULL: the result is its descriptor. */
	struct file *file;
};

static __always_inline void fill_failure(struct open_event *open, const struct attempt *attempt)
{
	open->flags = attempt->asked;
	/* Another thread has closed it before we looked. */
	if (attempt->result >= 0)
		open->path.leaf_first.error = -ENOENT;
	else
		append_string(open, &open->argument, attempt->name, PATH_BYTES,
			      !attempt->kernel_name);
}

/* What the rules say about it. */
static __always_inline __u32 fill_opened(struct open_event *open, struct settings *now,
					 const struct opened_file *file)
{
	struct scratch *scratch = scratch_of(open);

	open->flags = file->flags;
	open->created = !!(file->mode & FMODE_CREATED);
	fill_file_id(scratch, &open->file, file->inode);
	append_path(open, &open->path, file->mount, file->dentry);
	return now->filters & FILTER_PATHS ? path_rule(scratch->index) : 0;
}

/* False when the call failed, or when another thread has closed the file before we looked. */
static __always_inline bool find_file(struct opened_file *to, const struct attempt *attempt,
				      struct task_struct *task, bool often)
{
	if (attempt->result < 0)
		return false;
	if (attempt->file)
		look_at(to, attempt->file);
	else if (!look_at_fd(to, task, attempt->result, often))
		return false;
	to->flags |= attempt->asked & O_PASSED;
	return true;
}

/* Whether the open is one that is counted and not reported; @seen: the next one may be. */
static __always_inline bool is_repeat(struct settings *now, struct task_struct *task,
				      const struct opened_file *file, struct open_key *key,
				      bool *seen)
{
	__u64 hash;

	if (!now->count_repeats || !only_reads(file))
		return false;
	fill_key(key, task, file);
	hash = hash_of(key);
	if (is_counted(now, key, hash))
		return true;
	*seen = is_known(hash);
	return false;
}

static __always_inline __u32 process_of(struct task_struct *task)
{
	return HAS_TYPED_TASK ? LOADED(task, tgid) : bpf_get_current_pid_tgid() >> 32;
}

/* Of the current @task. Most opens end before there is a record: they come first, and cost least. */
static __always_inline int report(const struct attempt *attempt, struct task_struct *task,
				  bool often)
{
	struct counters *count = wanted_by(EVENT_OPEN, process_of(task));
	struct settings *now = current_settings();
	struct opened_file file = {};
	struct scratch *scratch;
	struct open_event *open;
	struct open_key key = {};
	bool seen = false;
	bool found;
	__u32 rule = 0;

	if (!count || !now)
		return 0;
	if (attempt->result < 0 && !is_failure_wanted(now, attempt->result)) {
		COUNT(count->filtered);
		return 0;
	}
	found = find_file(&file, attempt, task, often);
	if (found && is_repeat(now, task, &file, &key, &seen)) {
		COUNT(count->aggregated);
		return 0;
	}
	scratch = take_scratch_for(EVENT_OPEN);
	if (!scratch)
		return 0;
	open = emit_start(scratch, EVENT_OPEN, sizeof(*open));
	if (!open)
		return 0;
	open->event.result = attempt->result;
	open->count = 1;
	if (found)
		rule = fill_opened(open, now, &file);
	else
		fill_failure(open, attempt);
	if (rule == PATH_EXCLUDED) {
		emit_cancel(open, EVENT_OPEN);
		return 0;
	}
	if (seen && rule != PATH_WATCHED)
		count_from_now(now, scratch, &key, hash_of(&key));
	emit_submit(open, EVENT_OPEN);
	return 0;
}

/* A function of its own, which the verifier looks at once for each program. */
__noinline int opened(__s64 result, __u64 name, __u32 asked)
{
	struct attempt attempt = { .result = result, .name = (void *)name, .asked = asked };

	return report(&attempt, current_task(), false);
}

/* long open(const char *filename, int flags, umode_t mode) */
SEC("tp/syscalls/sys_exit_open")
int exit_open(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return opened(context->ret, passed.first, passed.second);
}

/*
 * long openat(int dfd, const char *filename, int flags, umode_t mode)
 *
 * C libraries open nearly everything by it.
 */
SEC("tp/syscalls/sys_exit_openat")
int exit_openat(struct trace_event_raw_sys_exit *context)
{
	struct task_struct *task = current_task();
	struct attempt attempt = { .result = context->ret };
	struct arguments passed;

	read_arguments_of(&passed, task);
	attempt.name = (void *)passed.second;
	attempt.asked = passed.third;
	return report(&attempt, task, true);
}

/* long openat2(int dfd, const char *filename, struct open_how *how, size_t usize) */
SEC("tp/syscalls/sys_exit_openat2")
int exit_openat2(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;
	__u64 flags = 0;

	read_arguments(&passed);
	/* struct open_how starts with the flags. */
	bpf_probe_read_user(&flags, sizeof(flags), (void *)passed.third);
	return opened(context->ret, passed.second, flags);
}

/* long creat(const char *pathname, umode_t mode) */
SEC("tp/syscalls/sys_exit_creat")
int exit_creat(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	/* creat(2): O_CREAT|O_WRONLY|O_TRUNC. */
	return opened(context->ret, passed.first, O_CREAT | 1 | O_TRUNC);
}

/* long open_by_handle_at(int mountdirfd, struct file_handle *handle, int flags) */
AFTER(open_by_handle_at, compat_sys_open_by_handle_at)
{
	/* A handle is no name. */
	return opened(result, 0, passed->third);
}

/* What execve(2) opens: told by the exec. */
#define FMODE_EXEC 0x20
#define LARGEST_ERROR 4095

/* The arguments of one of the functions below, with what it returned behind them. */
static __always_inline int opened_by_name(__u64 *context, struct filename *name,
					  const struct open_flags *op)
{
	struct attempt attempt = { .kernel_name = true, .asked = op->open_flag };
	struct file *file = (struct file *)context[3];
	__u64 returned = 0;

	if (attempt.asked & FMODE_EXEC)
		return 0;
	/* Read anew, since nobody may compare what the verifier takes for a pointer. */
	bpf_probe_read_kernel(&returned, sizeof(returned), &file);
	if (returned >= (__u64)-LARGEST_ERROR)
		attempt.result = returned;
	else
		attempt.file = file;
	attempt.name = name->name;
	return report(&attempt, current_task(), false);
}

/*
 * struct file *do_filp_open(int dfd, struct filename *pathname, const struct open_flags *op)
 *
 * Every open by name goes through it, io_uring and 32-bit calls, too.
 */
SEC("fexit/do_filp_open")
int BPF_PROG(end_filp_open, int directory, struct filename *name, const struct open_flags *op)
{
	return opened_by_name(ctx, name, op);
}

/*
 * struct file *do_file_open(int dfd, struct filename *pathname, const struct open_flags *op)
 *
 * Its name in v7: "rename do_filp_open() to do_file_open()".
 */
SEC("fexit/do_file_open")
int BPF_PROG(end_file_open, int directory, struct filename *name, const struct open_flags *op)
{
	return opened_by_name(ctx, name, op);
}
