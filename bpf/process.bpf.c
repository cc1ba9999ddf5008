// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Processes: exec, fork, exit, and a list of those that were there before. */
#include <vmlinux.h>
#include "call.h"
#include "emit.h"
#include "path.h"
#include "socket.h"
#include "strings.h"

#define CLONE_VM 0x100
#define CLONE_VFORK 0x4000
#define SIGNAL_BITS 0x7f
#define CORE_BIT 0x80
#define SIGNAL_GROUP_EXIT 0x4

/* Credentials at the entry of an execve that has not come back yet, by thread. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct credentials);
} execs_under_way SEC(".maps");

/* Processes whose last thread is gone, where the kernel does not say which one was the last. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u8);
} exited SEC(".maps");

static __always_inline int remember_credentials(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 thread = bpf_get_current_pid_tgid();
	struct credentials old = {};

	fill_credentials(&old, BPF_CORE_READ(task, cred));
	bpf_map_update_elem(&execs_under_way, &thread, &old, BPF_ANY);
	return 0;
}

/* long execve(const char *filename, const char *const *argv, const char *const *envp) */
BEFORE(execve, compat_sys_execve)
{
	return remember_credentials();
}

/* long execveat(int fd, const char *filename, const char *const *argv, const char *const *envp, int flags) */
BEFORE(execveat, compat_sys_execveat)
{
	return remember_credentials();
}

/* Takes what enter_execve() left; a thread that becomes the leader changes its tid. */
static __always_inline void fill_old_credentials(struct exec_event *exec, __u32 old_tid)
{
	__u64 thread = bpf_get_current_pid_tgid() & ~0xffffffffULL;
	struct credentials *old;

	thread |= old_tid;
	old = bpf_map_lookup_elem(&execs_under_way, &thread);
	if (!old) {
		__builtin_memset(&exec->old, 0xff, sizeof(exec->old));
		return;
	}
	exec->old = *old;
	bpf_map_delete_elem(&execs_under_way, &thread);
}

static __always_inline void fill_stream(struct stream *to, int fd)
{
	struct file *file = file_of(fd);
	struct socket *socket = socket_of(file);

	if (file)
		to->type = BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT;
	if (to->type == S_IFIFO)
		to->inode = BPF_CORE_READ(file, f_inode, i_ino);
	if (socket) {
		struct sock *sk = BPF_CORE_READ(socket, sk);

		fill_remote(&to->remote, sk, BPF_CORE_READ(sk, __sk_common.skc_family));
	}
}

static __always_inline void fill_image(struct exec_event *exec, struct task_struct *task)
{
	struct file *file = BPF_CORE_READ(task, mm, exe_file);
	struct inode *inode = BPF_CORE_READ(file, f_inode);

	fill_file(scratch_of(exec), &exec->file, &exec->version, inode);
	fill_owner(&exec->owner, file, inode);
	append_file_path(exec, &exec->path, file);
}

static __always_inline void fill_arguments(struct exec_event *exec, struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	__u64 start = BPF_CORE_READ(mm, arg_start);
	__u64 end = BPF_CORE_READ(mm, arg_end);

	append_bytes(exec, &exec->argv.joined, (void *)start, end - start, constants.argv_bytes,
		     true);
	append_environment(exec, &exec->environment, BPF_CORE_READ(mm, env_start),
			   BPF_CORE_READ(mm, env_end));
}

static __always_inline void fill_names(struct exec_event *exec, struct linux_binprm *bprm)
{
	const char *filename = BPF_CORE_READ(bprm, filename);
	const char *interp = BPF_CORE_READ(bprm, interp);

	exec->argc = BPF_CORE_READ(bprm, argc);
	append_string(exec, &exec->filename, filename, PATH_BYTES, false);
	if (interp == filename)
		return;
	exec->script = exec->filename;
	append_string(exec, &exec->interpreter, interp, PATH_BYTES, false);
}

static __always_inline void fill_stdio(struct exec_event *exec)
{
	fill_stream(&exec->stdio[0], 0);
	fill_stream(&exec->stdio[1], 1);
	fill_stream(&exec->stdio[2], 2);
}

/* void sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm) */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, pid_t old_tid, struct linux_binprm *bprm)
{
	struct exec_event *exec = emit_reserve(EVENT_EXEC, sizeof(*exec));

	if (!exec)
		return 0;
	exec->personality = task->personality;
	fill_facts(&exec->facts, task);
	fill_old_credentials(exec, old_tid);
	fill_stdio(exec);
	fill_image(exec, task);
	append_cwd(exec, &exec->cwd, task);
	fill_names(exec, bprm);
	fill_arguments(exec, task);
	emit_submit(exec, EVENT_EXEC);
	return 0;
}

/* An execve that failed: what it asked for is in the caller's memory. */
static __always_inline int failed_exec(long result, const struct arguments *passed, __u64 filename,
				       __u64 argv)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct exec_event *exec;

	if (!result)
		return 0;
	exec = emit_reserve(EVENT_EXEC, sizeof(*exec));
	if (!exec)
		return 0;
	exec->event.result = result;
	exec->personality = BPF_CORE_READ(task, personality);
	fill_facts(&exec->facts, task);
	fill_old_credentials(exec, exec->event.tid);
	fill_stdio(exec);
	append_cwd(exec, &exec->cwd, task);
	append_string(exec, &exec->filename, (void *)filename, PATH_BYTES, true);
	append_pointers(exec, &exec->argv, passed, argv, constants.argv_bytes);
	emit_submit(exec, EVENT_EXEC);
	return 0;
}

AFTER(execve, compat_sys_execve)
{
	return failed_exec(result, passed, passed->first, passed->second);
}

AFTER(execveat, compat_sys_execveat)
{
	return failed_exec(result, passed, passed->second, passed->third);
}

/* The flags are in a register for clone(2) and in memory for clone3(2). */
static __always_inline void fill_clone_flags(struct fork_event *fork, struct task_struct *parent)
{
	__u64 number = ARGUMENT(REGISTER_NUMBER);
	bool narrow = is_in_call_32(parent);
	__u64 first = narrow ? (__u32)ARGUMENT(REGISTER_ARG1_32) : ARGUMENT(REGISTER_ARG1);

	fork->flags = ~0ULL;
	if (BPF_CORE_READ(parent, flags) & PF_KTHREAD)
		return;
	if (number == (narrow ? NR_CLONE_32 : NR_CLONE)) {
		/* The lowest byte is the signal that tells the parent. */
		fork->flags = first & ~0xffULL;
	} else if (number == NR_CLONE3) {
		/* struct clone_args starts with the flags. */
		__u64 flags;

		if (!bpf_probe_read_user(&flags, sizeof(flags), (void *)first))
			fork->flags = flags;
	} else if (number == (narrow ? NR_FORK_32 : NR_FORK)) {
		fork->flags = 0;
	} else if (number == (narrow ? NR_VFORK_32 : NR_VFORK)) {
		fork->flags = CLONE_VFORK | CLONE_VM;
	}
}

/* void sched_process_fork(struct task_struct *parent, struct task_struct *child) */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct fork_event *fork;

	/* A new thread is not a new process. */
	if (child->pid != child->tgid)
		return 0;
	fork = emit_reserve(EVENT_FORK, sizeof(*fork));
	if (!fork)
		return 0;
	fill_task(&fork->child, child);
	fill_facts(&fork->facts, child);
	fill_clone_flags(fork, parent);
	emit_submit(fork, EVENT_FORK);
	return 0;
}

/* Whether @task is the thread whose death is the death of the process. */
static __always_inline bool is_last_thread(struct task_struct *task, bool group_dead)
{
	__u64 start_time;
	__u8 gone = 1;

	if (constants.exit_has_group_dead)
		return group_dead;
	if (BPF_CORE_READ(task, signal, live.counter))
		return false;
	/* Two threads that die at once both see zero: the first one speaks. */
	start_time = BPF_CORE_READ(task, group_leader, start_boottime) ^
		     ((__u64)BPF_CORE_READ(task, tgid) << 40);
	return !bpf_map_update_elem(&exited, &start_time, &gone, BPF_NOEXIST);
}

static __always_inline void fill_exit(struct exit_event *exit, struct task_struct *task)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	__u32 status = BPF_CORE_READ(task, exit_code);

	if (BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT)
		status = BPF_CORE_READ(signal, group_exit_code);
	/*
	 * The flag says less than its name: before commit d80f7d7b2c75 (v5.19) it is not set
	 * for a single thread, since then it is always set. exit(2) ends a thread.
	 */
	exit->group_exit = ARGUMENT(REGISTER_NUMBER) !=
			   (is_in_call_32(task) ? NR_EXIT_32 : NR_EXIT);
	exit->code = status >> 8 & 0xff;
	exit->signal = status & SIGNAL_BITS;
	exit->core_dumped = !!(status & CORE_BIT);
	exit->cpu_ns = BPF_CORE_READ(signal, sum_sched_runtime) +
		       BPF_CORE_READ(task, se.sum_exec_runtime);
	if (leader != task)
		exit->cpu_ns += BPF_CORE_READ(leader, se.sum_exec_runtime);
	exit->max_rss_bytes = BPF_CORE_READ(signal, maxrss) * constants.page_bytes;
}

/* void sched_process_exit(struct task_struct *p[, bool group_dead]) */
SEC("tp_btf/sched_process_exit")
int on_exit(__u64 *context)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	bool group_dead = false;
	struct exit_event *exit;

	if (constants.exit_has_group_dead)
		group_dead = context[1];
	if (!is_last_thread(task, group_dead))
		return 0;
	exit = emit_reserve(EVENT_EXIT, sizeof(*exit));
	if (!exit)
		return 0;
	fill_exit(exit, task);
	emit_submit(exit, EVENT_EXIT);
	return 0;
}

/*
 * Every process that is alive, as records one after the other. It runs in the
 * agent's own context, so it also tells the kernel who the agent is, whatever pid
 * namespace the agent lives in.
 */
SEC("iter/task")
int list_processes(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct process_event *process;
	struct scratch *scratch;
	struct settings *now;
	__u32 zero = 0;
	__u32 size;

	now = bpf_map_lookup_elem(&settings, &zero);
	if (now)
		now->own_pid = bpf_get_current_pid_tgid() >> 32;
	if (!task || task->pid != task->tgid)
		return 0;
	scratch = take_scratch();
	if (!scratch)
		return 0;
	process = (struct process_event *)scratch->record;
	__builtin_memset(process, 0, sizeof(*process));
	scratch->used = sizeof(*process);
	process->event.time = bpf_ktime_get_boot_ns();
	process->event.kind = EVENT_PROCESS;
	process->event.tid = task->pid;
	fill_task(&process->event.task, task);
	process->event.task.cgroup = 0;
	fill_facts(&process->facts, task);
	append_executable(process, &process->path, task);
	size = scratch->used & (RECORD_MAX - 1);
	process->event.size = size;
	bpf_seq_write(context->meta->seq, process, size);
	give_back(scratch);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
