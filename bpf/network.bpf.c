// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Sockets: socket, connect, bind, listen, accept, seen when the call returns. */
#include <vmlinux.h>
#include <bpf/bpf_tracing.h>
#include "emit.h"
#include "path.h"
#include "socket.h"

/* The longest AF_UNIX name: sizeof(struct sockaddr_un) - offsetof(sun_path). */
#define UNIX_NAME_BYTES 108
#define UNIX_NAME_OFFSET 2

/* SOCK_NONBLOCK and SOCK_CLOEXEC lie above. */
#define SOCK_TYPE_MASK 0xf

/* The name of a bound AF_UNIX socket: its file where there is one, else the abstract name. */
static __always_inline void append_unix_name(struct network_event *event, struct sock *sk)
{
	struct unix_sock *unix = (struct unix_sock *)sk;
	struct dentry *dentry;
	struct unix_address *address;

	if (!sk)
		return;
	dentry = BPF_CORE_READ(unix, path.dentry);
	address = BPF_CORE_READ(unix, addr);
	if (dentry)
		append_path(event, &event->path, BPF_CORE_READ(unix, path.mnt), dentry);
	else if (address)
		append_bytes(event, &event->name,
			     (char *)__builtin_preserve_access_index(&address->name) +
				     UNIX_NAME_OFFSET,
			     BPF_CORE_READ(address, len) - UNIX_NAME_OFFSET, UNIX_NAME_BYTES,
			     false);
}

/* A path ends at its NUL, whatever lies behind it; an abstract name starts with one. */
static __always_inline void append_passed_name(struct network_event *event, const void *address,
					       __u32 length)
{
	const char *name = address + UNIX_NAME_OFFSET;
	char first = 0;

	if (length <= UNIX_NAME_OFFSET || length > UNIX_NAME_OFFSET + UNIX_NAME_BYTES)
		return;
	length -= UNIX_NAME_OFFSET;
	bpf_probe_read_user(&first, sizeof(first), name);
	if (first) {
		append_string(event, &event->name, name, length + 1, true);
		/* What lies behind the address is not part of it. */
		event->name.truncated = 0;
	} else {
		append_bytes(event, &event->name, name, length, UNIX_NAME_BYTES, true);
	}
}

/* The address that the caller passed, where the socket does not hold it. */
static __always_inline void fill_passed(struct network_event *event, struct endpoint *to,
					const void *address, __u32 length)
{
	__u16 family = 0;

	event->unverified = 1;
	if (bpf_probe_read_user(&family, sizeof(family), address))
		return;
	if (family == AF_UNIX) {
		append_passed_name(event, address, length);
		return;
	}
	fill_passed_endpoint(to, address);
}

static __always_inline struct sock *fill_socket(struct network_event *event, int fd)
{
	struct socket *socket = socket_of(file_of(fd));
	struct sock *sk;

	event->fd = fd;
	if (!socket)
		return NULL;
	sk = BPF_CORE_READ(socket, sk);
	event->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	event->type = BPF_CORE_READ(socket, type);
	event->protocol = BPF_CORE_READ_BITFIELD_PROBED(sk, sk_protocol);
	fill_local(&event->local, sk, event->family);
	return sk;
}

static __always_inline struct network_event *reserve(__u32 kind, long result)
{
	struct network_event *event = emit_reserve(kind, sizeof(*event));

	if (event)
		event->event.result = result;
	return event;
}

/* Whether whole packets go through it. Netlink sockets are of type SOCK_RAW, too. */
static __always_inline bool is_raw(__u16 family, __u16 type)
{
	return family == AF_PACKET || (type == SOCK_RAW && family != AF_NETLINK);
}

static __always_inline int made_socket(long result, __u16 family, __u32 type, __u32 protocol)
{
	struct socket_event *made;
	bool raw;

	type &= SOCK_TYPE_MASK;
	raw = is_raw(family, type);
	made = emit_reserve_to(EVENT_SOCKET, sizeof(*made), raw);
	if (!made)
		return 0;
	made->event.result = result;
	made->family = family;
	made->type = type;
	made->protocol = protocol;
	emit_submit_to(made, EVENT_SOCKET, raw);
	return 0;
}

static __always_inline int connected(long result, int fd, __u64 address, __u32 length)
{
	struct network_event *event = reserve(EVENT_CONNECT, result);
	struct sock *sk;

	if (!event)
		return 0;
	sk = fill_socket(event, fd);
	if (sk && event->family == AF_UNIX && !result)
		append_unix_name(event, BPF_CORE_READ((struct unix_sock *)sk, peer));
	else if (sk && (!result || result == -EINPROGRESS))
		fill_remote(&event->remote, sk, event->family);
	else
		fill_passed(event, &event->remote, (void *)address, length);
	emit_submit(event, EVENT_CONNECT);
	return 0;
}

static __always_inline int bound(long result, int fd, __u64 address, __u32 length)
{
	struct network_event *event = reserve(EVENT_BIND, result);
	struct sock *sk;

	if (!event)
		return 0;
	sk = fill_socket(event, fd);
	if (result)
		fill_passed(event, &event->local, (void *)address, length);
	else if (event->family == AF_UNIX)
		append_unix_name(event, sk);
	emit_submit(event, EVENT_BIND);
	return 0;
}

static __always_inline int listened(long result, int fd, __u32 backlog)
{
	struct network_event *event = reserve(EVENT_LISTEN, result);
	struct sock *sk;

	if (!event)
		return 0;
	sk = fill_socket(event, fd);
	event->backlog = backlog;
	if (event->family == AF_UNIX)
		append_unix_name(event, sk);
	emit_submit(event, EVENT_LISTEN);
	return 0;
}

static __always_inline int accepted(long result, int listener)
{
	struct network_event *event = reserve(EVENT_ACCEPT, result);
	struct sock *sk;

	if (!event)
		return 0;
	/* A non-blocking listener that found nobody waiting. */
	if (result == -EAGAIN) {
		emit_cancel(event, EVENT_ACCEPT);
		return 0;
	}
	/* The new socket, or the listener when there is no new one. */
	sk = fill_socket(event, result >= 0 ? result : (long)listener);
	if (sk && result >= 0)
		fill_remote(&event->remote, sk, event->family);
	if (event->family == AF_UNIX)
		append_unix_name(event, sk);
	emit_submit(event, EVENT_ACCEPT);
	return 0;
}

/*
 * Whether it waits for somebody, is connected, or takes whole packets. Of local sockets only
 * those that wait: there are many, and they lead nowhere.
 */
static __always_inline bool is_of_use(struct sock *sk, __u16 family, __u16 type)
{
	bool waits = BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN;

	if (family == AF_UNIX)
		return waits;
	if (is_raw(family, type))
		return true;
	if (family != AF_INET && family != AF_INET6)
		return false;
	return waits || BPF_CORE_READ(sk, __sk_common.skc_dport) ||
	       (type == SOCK_DGRAM && BPF_CORE_READ(sk, __sk_common.skc_num));
}

static __always_inline void fill_older(struct network_event *event, struct sock *sk, __u16 family)
{
	event->family = family;
	event->protocol = BPF_CORE_READ_BITFIELD_PROBED(sk, sk_protocol);
	fill_local(&event->local, sk, family);
	fill_remote(&event->remote, sk, family);
	if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN)
		event->backlog = BPF_CORE_READ(sk, sk_max_ack_backlog);
	if (family == AF_UNIX)
		append_unix_name(event, sk);
}

/* The sockets of all processes that were there before the agent. */
SEC("iter/task_file")
int list_sockets(struct bpf_iter__task_file *context)
{
	struct task_struct *task = context->task;
	struct network_event *event;
	struct socket *socket;
	struct task who = {};
	struct sock *sk;
	__u16 family;
	__u16 type;

	if (!task || !context->file)
		return 0;
	socket = socket_of(context->file);
	if (!socket)
		return 0;
	sk = BPF_CORE_READ(socket, sk);
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	type = BPF_CORE_READ(socket, type);
	if (!sk || !is_of_use(sk, family, type))
		return 0;
	fill_task(&who, task);
	who.cgroup = cgroup_of(task);
	event = emit_reserve_of(EVENT_OLDER_SOCKET, sizeof(*event), &who, task->pid);
	if (!event)
		return 0;
	event->fd = context->fd;
	event->type = type;
	fill_older(event, sk, family);
	emit_submit(event, EVENT_OLDER_SOCKET);
	return 0;
}

/* long socket(int family, int type, int protocol) */
SEC("tp/syscalls/sys_exit_socket")
int exit_socket(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return made_socket(context->ret, passed.first, passed.second, passed.third);
}

/* long connect(int fd, struct sockaddr *uservaddr, int addrlen) */
SEC("tp/syscalls/sys_exit_connect")
int exit_connect(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return connected(context->ret, passed.first, passed.second, passed.third);
}

/* long bind(int fd, struct sockaddr *umyaddr, int addrlen) */
SEC("tp/syscalls/sys_exit_bind")
int exit_bind(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return bound(context->ret, passed.first, passed.second, passed.third);
}

/* long listen(int fd, int backlog) */
SEC("tp/syscalls/sys_exit_listen")
int exit_listen(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return listened(context->ret, passed.first, passed.second);
}

/* long accept(int fd, struct sockaddr *upeer_sockaddr, int *upeer_addrlen) */
SEC("tp/syscalls/sys_exit_accept")
int exit_accept(struct trace_event_raw_sys_exit *context)
{
	return accepted(context->ret, ARGUMENT(REGISTER_ARG1));
}

/* long accept4(int fd, struct sockaddr *upeer_sockaddr, int *upeer_addrlen, int flags) */
SEC("tp/syscalls/sys_exit_accept4")
int exit_accept4(struct trace_event_raw_sys_exit *context)
{
	return accepted(context->ret, ARGUMENT(REGISTER_ARG1));
}

/*
 * What the calls of 64 and of 32 bits and socketcall(2) have in common.
 *
 * int __sys_socket(int family, int type, int protocol)
 */
SEC("fexit/__sys_socket")
int BPF_PROG(end_socket, int family, int type, int protocol, int result)
{
	return made_socket(result, family, type, protocol);
}

/* int __sys_connect(int fd, struct sockaddr *uservaddr, int addrlen) */
SEC("fexit/__sys_connect")
int BPF_PROG(end_connect, int fd, __u64 address, int length, int result)
{
	return connected(result, fd, address, length);
}

/* int __sys_bind(int fd, struct sockaddr *umyaddr, int addrlen) */
SEC("fexit/__sys_bind")
int BPF_PROG(end_bind, int fd, __u64 address, int length, int result)
{
	return bound(result, fd, address, length);
}

/* int __sys_listen(int fd, int backlog) */
SEC("fexit/__sys_listen")
int BPF_PROG(end_listen, int fd, int backlog, int result)
{
	return listened(result, fd, backlog);
}

/* int __sys_accept4(int fd, struct sockaddr *upeer_sockaddr, int *upeer_addrlen, int flags) */
SEC("fexit/__sys_accept4")
int BPF_PROG(end_accept, int fd, __u64 address, __u64 length, int flags, int result)
{
	return accepted(result, fd);
}
