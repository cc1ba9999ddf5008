// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Sockets: socket, connect, bind, listen, accept, seen when the call returns. */
#include <vmlinux.h>
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
	if (first)
		append_string(event, &event->name, name, length + 1, true);
	else
		append_bytes(event, &event->name, name, length, UNIX_NAME_BYTES, true);
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

/* long socket(int family, int type, int protocol) */
SEC("tp/syscalls/sys_exit_socket")
int exit_socket(struct trace_event_raw_sys_exit *context)
{
	struct socket_event *made;
	struct arguments passed;
	__u16 type;
	bool raw;

	read_arguments(&passed);
	type = passed.second & SOCK_TYPE_MASK;
	raw = is_raw(passed.first, type);
	made = emit_reserve_to(EVENT_SOCKET, sizeof(*made), raw);
	if (!made)
		return 0;
	made->event.result = context->ret;
	made->family = passed.first;
	made->type = type;
	made->protocol = passed.third;
	emit_submit_to(made, EVENT_SOCKET, raw);
	return 0;
}

/* long connect(int fd, struct sockaddr *uservaddr, int addrlen) */
SEC("tp/syscalls/sys_exit_connect")
int exit_connect(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;
	struct network_event *event = reserve(EVENT_CONNECT, context->ret);
	struct sock *sk;

	if (!event)
		return 0;
	read_arguments(&passed);
	sk = fill_socket(event, passed.first);
	if (sk && event->family == AF_UNIX && !context->ret)
		append_unix_name(event, BPF_CORE_READ((struct unix_sock *)sk, peer));
	else if (sk && (!context->ret || context->ret == -EINPROGRESS))
		fill_remote(&event->remote, sk, event->family);
	else
		fill_passed(event, &event->remote, (void *)passed.second, passed.third);
	emit_submit(event, EVENT_CONNECT);
	return 0;
}

/* long bind(int fd, struct sockaddr *umyaddr, int addrlen) */
SEC("tp/syscalls/sys_exit_bind")
int exit_bind(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;
	struct network_event *event = reserve(EVENT_BIND, context->ret);
	struct sock *sk;

	if (!event)
		return 0;
	read_arguments(&passed);
	sk = fill_socket(event, passed.first);
	if (context->ret)
		fill_passed(event, &event->local, (void *)passed.second, passed.third);
	else if (event->family == AF_UNIX)
		append_unix_name(event, sk);
	emit_submit(event, EVENT_BIND);
	return 0;
}

/* long listen(int fd, int backlog) */
SEC("tp/syscalls/sys_exit_listen")
int exit_listen(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;
	struct network_event *event = reserve(EVENT_LISTEN, context->ret);
	struct sock *sk;

	if (!event)
		return 0;
	read_arguments(&passed);
	sk = fill_socket(event, passed.first);
	event->backlog = passed.second;
	if (event->family == AF_UNIX)
		append_unix_name(event, sk);
	emit_submit(event, EVENT_LISTEN);
	return 0;
}

static __always_inline int accepted(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;
	struct network_event *event = reserve(EVENT_ACCEPT, context->ret);
	struct sock *sk;

	if (!event)
		return 0;
	read_arguments(&passed);
	/* A non-blocking listener that found nobody waiting. */
	if (context->ret == -EAGAIN) {
		emit_cancel(event, EVENT_ACCEPT);
		return 0;
	}
	/* The new socket, or the listener when there is no new one. */
	sk = fill_socket(event, context->ret >= 0 ? context->ret : (long)passed.first);
	if (sk && context->ret >= 0)
		fill_remote(&event->remote, sk, event->family);
	if (event->family == AF_UNIX)
		append_unix_name(event, sk);
	emit_submit(event, EVENT_ACCEPT);
	return 0;
}

/* long accept(int fd, struct sockaddr *upeer_sockaddr, int *upeer_addrlen) */
SEC("tp/syscalls/sys_exit_accept")
int exit_accept(struct trace_event_raw_sys_exit *context)
{
	return accepted(context);
}

/* long accept4(int fd, struct sockaddr *upeer_sockaddr, int *upeer_addrlen, int flags) */
SEC("tp/syscalls/sys_exit_accept4")
int exit_accept4(struct trace_event_raw_sys_exit *context)
{
	return accepted(context);
}
