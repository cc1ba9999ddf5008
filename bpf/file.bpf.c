// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Files: open and its siblings, seen when the call returns. */
#include <vmlinux.h>
#include "emit.h"
#include "path.h"

#define O_CREAT 0100
#define O_EXCL 0200
#define O_NOCTTY 0400
#define O_TRUNC 01000
#define FMODE_CREATED 0x100000

static __always_inline void fill_opened(struct open_event *open, struct task_struct *task,
					__u32 asked)
{
	struct file *file = file_of(task, open->event.result);

	/* Another thread has closed it already. */
	if (!file) {
		open->path.leaf_first.error = -ENOENT;
		open->flags = asked;
		return;
	}
	/* The kernel forgets these four once the file is open. */
	open->flags = BPF_CORE_READ(file, f_flags) |
		      (asked & (O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC));
	open->created = !!(BPF_CORE_READ(file, f_mode) & FMODE_CREATED);
	fill_file_id(&open->file, BPF_CORE_READ(file, f_inode));
	append_file_path(open, &open->path, file);
}

static __always_inline int opened(long result, const char *name, __u32 asked)
{
	struct open_event *open = emit_reserve(EVENT_OPEN, sizeof(*open));

	if (!open)
		return 0;
	open->event.result = result;
	if (result >= 0) {
		fill_opened(open, (struct task_struct *)bpf_get_current_task(), asked);
	} else {
		open->flags = asked;
		append_string(open, &open->argument, name, true);
	}
	emit_submit(open, EVENT_OPEN);
	return 0;
}

/* long open(const char *filename, int flags, umode_t mode) */
SEC("tp/syscalls/sys_exit_open")
int exit_open(struct trace_event_raw_sys_exit *context)
{
	struct pt_regs *registers = user_registers();

	return opened(context->ret, (const char *)SYSCALL_ARG1(registers), SYSCALL_ARG2(registers));
}

/* long openat(int dfd, const char *filename, int flags, umode_t mode) */
SEC("tp/syscalls/sys_exit_openat")
int exit_openat(struct trace_event_raw_sys_exit *context)
{
	struct pt_regs *registers = user_registers();

	return opened(context->ret, (const char *)SYSCALL_ARG2(registers), SYSCALL_ARG3(registers));
}

/* long openat2(int dfd, const char *filename, struct open_how *how, size_t usize) */
SEC("tp/syscalls/sys_exit_openat2")
int exit_openat2(struct trace_event_raw_sys_exit *context)
{
	struct pt_regs *registers = user_registers();
	__u64 flags = 0;

	/* struct open_how starts with the flags. */
	bpf_probe_read_user(&flags, sizeof(flags), (void *)SYSCALL_ARG3(registers));
	return opened(context->ret, (const char *)SYSCALL_ARG2(registers), flags);
}

/* long creat(const char *pathname, umode_t mode) */
SEC("tp/syscalls/sys_exit_creat")
int exit_creat(struct trace_event_raw_sys_exit *context)
{
	struct pt_regs *registers = user_registers();

	/* creat(2): O_CREAT|O_WRONLY|O_TRUNC. */
	return opened(context->ret, (const char *)SYSCALL_ARG1(registers), O_CREAT | 1 | O_TRUNC);
}

/* long open_by_handle_at(int mountdirfd, struct file_handle *handle, int flags) */
SEC("tp/syscalls/sys_exit_open_by_handle_at")
int exit_open_by_handle_at(struct trace_event_raw_sys_exit *context)
{
	struct pt_regs *registers = user_registers();

	/* A handle is no name. */
	return opened(context->ret, NULL, SYSCALL_ARG3(registers));
}
