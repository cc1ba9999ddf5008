// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Copies of descriptors: dup and its siblings, seen when the call returns.
 *
 * Programs copy descriptors all the time and it says nothing, but for two cases: a socket
 * that gets another number may become a standard stream or change hands, and what becomes
 * a standard stream is what a program runs on. Other copies are no event.
 */
#include <vmlinux.h>
#include "call.h"
#include "emit.h"
#include "path.h"
#include "pidfd.h"
#include "socket.h"

#define F_DUPFD 0
#define F_DUPFD_CLOEXEC 1030

/* Which number is asked for, where it may be any. */
#define ANY_FD (~0U)

struct copy {
	/* The new descriptor, or negative errno. */
	long result;
	__u32 old_fd;
	__u32 asked_fd;
	/* Where it comes from, when that is another process. */
	struct pid *from;
	/* What is copied; NULL when it is not known. */
	struct file *file;
};

static __always_inline bool is_standard_stream(const struct copy *copy)
{
	return (copy->result < 0 ? copy->asked_fd : (__u32)copy->result) <= 2;
}

static __always_inline void fill_socket_facts(struct dup_event *dup, struct socket *socket)
{
	struct sock *sk = BPF_CORE_READ(socket, sk);

	dup->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	dup->type = BPF_CORE_READ(socket, type);
	dup->protocol = BPF_CORE_READ_BITFIELD_PROBED(sk, sk_protocol);
	fill_local(&dup->local, sk, dup->family);
	fill_remote(&dup->remote, sk, dup->family);
}

/* Pipes and sockets have no name. */
static __always_inline void append_name(struct dup_event *dup, struct file *file)
{
	if (BPF_CORE_READ(file, f_path.dentry, d_name.len))
		append_file_path(dup, &dup->path, file);
}

static __always_inline int report(const struct copy *copy, struct socket *socket)
{
	/* As a reverse shell does. */
	bool is_precious = socket && is_standard_stream(copy);
	struct dup_event *dup = emit_reserve_to(EVENT_DUP, sizeof(*dup), is_precious);
	struct other from = {};

	if (!dup)
		return 0;
	dup->event.result = copy->result;
	dup->old_fd = copy->old_fd;
	dup->new_fd = copy->result < 0 ? -1 : copy->result;
	dup->from_pid = dup->event.task.pid;
	if (copy->from) {
		fill_other_of(&from, copy->from);
		dup->from_pid = from.pid;
	}
	if (socket)
		fill_socket_facts(dup, socket);
	else if (copy->file)
		append_name(dup, copy->file);
	emit_submit_to(dup, EVENT_DUP, is_precious);
	return 0;
}

static __always_inline int copied(long result, __u32 old_fd, __u32 asked_fd)
{
	struct copy copy = { .result = result, .old_fd = old_fd, .asked_fd = asked_fd };
	struct socket *socket;

	/* dup2() onto itself does nothing. */
	if (result == old_fd)
		return 0;
	copy.file = file_of(result < 0 ? old_fd : result);
	socket = socket_of(copy.file);
	if (!socket && !is_standard_stream(&copy))
		return 0;
	return report(&copy, socket);
}

/* long dup(unsigned int fildes) */
AFTER(dup, sys_dup)
{
	return copied(result, passed->first, ANY_FD);
}

/* long dup2(unsigned int oldfd, unsigned int newfd) */
AFTER(dup2, sys_dup2)
{
	return copied(result, passed->first, passed->second);
}

/* long dup3(unsigned int oldfd, unsigned int newfd, int flags) */
AFTER(dup3, sys_dup3)
{
	return copied(result, passed->first, passed->second);
}

/* long fcntl(unsigned int fd, unsigned int cmd, unsigned long arg) */
AFTER(fcntl, compat_sys_fcntl)
{
	__u32 command = passed->second;

	if (command != F_DUPFD && command != F_DUPFD_CLOEXEC)
		return 0;
	return copied(result, passed->first, ANY_FD);
}

/* The same for a program of 32 bits that knows of large files. */
AFTER_32(fcntl64, compat_sys_fcntl64)
{
	return after_fcntl(result, passed);
}

/* long pidfd_getfd(int pidfd, int fd, unsigned int flags) */
AFTER(pidfd_getfd, sys_pidfd_getfd)
{
	struct copy copy = { .result = result, .asked_fd = ANY_FD };
	struct socket *socket = NULL;

	copy.old_fd = passed->second;
	copy.from = pid_of(file_of(passed->first));
	if (result >= 0) {
		copy.file = file_of(result);
		socket = socket_of(copy.file);
		if (!socket && !is_standard_stream(&copy))
			return 0;
	}
	/* A failure is reported whatever the descriptor was, since that is not known. */
	return report(&copy, socket);
}
