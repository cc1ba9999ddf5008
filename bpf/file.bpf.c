// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Files: open and its siblings, seen when the call returns. */
#include <vmlinux.h>
#include "emit.h"
#include "path.h"

#define O_CREAT 0100
#define O_EXCL 0200
#define O_NOCTTY 0400
#define O_TRUNC 01000
#define O_CLOEXEC 02000000
/* What the call says and the open file need not keep. */
#define O_PASSED (O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC)
#define FMODE_CREATED 0x100000

static __always_inline void fill_opened(struct open_event *open, __u32 asked)
{
	struct scratch *scratch = scratch_of(open);
	struct file *file = file_of(open->event.result);
	struct vfsmount *mount;
	struct dentry *dentry;
	struct inode *inode;

	/* Another thread has closed it already. */
	if (!file) {
		open->path.leaf_first.error = -ENOENT;
		open->flags = asked;
		return;
	}
	peek(scratch, file);
	open->flags = PEEKED(scratch, file, f_flags) | (asked & O_PASSED);
	open->created = !!(PEEKED(scratch, file, f_mode) & FMODE_CREATED);
	mount = PEEKED(scratch, file, f_path.mnt);
	dentry = PEEKED(scratch, file, f_path.dentry);
	inode = PEEKED(scratch, file, f_inode);
	fill_file_id(scratch, &open->file, inode);
	append_path(open, &open->path, mount, dentry);
}

static __always_inline int opened(long result, const char *name, __u32 asked)
{
	struct open_event *open = emit_reserve(EVENT_OPEN, sizeof(*open));

	if (!open)
		return 0;
	open->event.result = result;
	open->count = 1;
	if (result >= 0) {
		fill_opened(open, asked);
	} else {
		open->flags = asked;
		append_string(open, &open->argument, name, PATH_BYTES, true);
	}
	emit_submit(open, EVENT_OPEN);
	return 0;
}

/* long open(const char *filename, int flags, umode_t mode) */
SEC("tp/syscalls/sys_exit_open")
int exit_open(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return opened(context->ret, (const char *)passed.first, passed.second);
}

/* long openat(int dfd, const char *filename, int flags, umode_t mode) */
SEC("tp/syscalls/sys_exit_openat")
int exit_openat(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return opened(context->ret, (const char *)passed.second, passed.third);
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
	return opened(context->ret, (const char *)passed.second, flags);
}

/* long creat(const char *pathname, umode_t mode) */
SEC("tp/syscalls/sys_exit_creat")
int exit_creat(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	/* creat(2): O_CREAT|O_WRONLY|O_TRUNC. */
	return opened(context->ret, (const char *)passed.first, O_CREAT | 1 | O_TRUNC);
}

/* long open_by_handle_at(int mountdirfd, struct file_handle *handle, int flags) */
SEC("tp/syscalls/sys_exit_open_by_handle_at")
int exit_open_by_handle_at(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	/* A handle is no name. */
	return opened(context->ret, NULL, passed.third);
}
