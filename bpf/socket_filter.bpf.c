// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Filters on sockets: programs, classic or eBPF, that see packets before their owner does. */
#include <vmlinux.h>
#include <bpf/bpf_tracing.h>
#include "anonymous.h"
#include "compat.h"
#include "emit.h"
#include "socket.h"

/* include/uapi/asm-generic/socket.h, the same on all architectures that we run on. */
#define SOL_SOCKET 1
#define SO_ATTACH_FILTER 26
#define SO_ATTACH_BPF 50
#define SO_ATTACH_REUSEPORT_CBPF 51
#define SO_ATTACH_REUSEPORT_EBPF 52

static __always_inline bool is_ebpf(int option)
{
	return option == SO_ATTACH_BPF || option == SO_ATTACH_REUSEPORT_EBPF;
}

/* Nearly all calls are about something else, and end here. */
static __always_inline bool attaches(int level, int option)
{
	return level == SOL_SOCKET && (option == SO_ATTACH_FILTER || is_ebpf(option) ||
				       option == SO_ATTACH_REUSEPORT_CBPF);
}

/* @value: the descriptor of a program, or struct sock_fprog, which starts with the length. */
static __always_inline void fill_filter(struct socket_filter_event *event, const void *value)
{
	struct bpf_prog *program;
	struct file *file;
	__u16 length = 0;
	int fd = -1;

	if (!is_ebpf(event->option)) {
		bpf_probe_read_user(&length, sizeof(length), value);
		event->instructions = length;
		return;
	}
	bpf_probe_read_user(&fd, sizeof(fd), value);
	file = file_of(fd);
	if (anonymous_name(file) != NAME_OF("bpf-prog"))
		return;
	program = BPF_CORE_READ(file, private_data);
	event->program_id = BPF_CORE_READ(program, aux, id);
}

static __always_inline int attached(long result, int fd, int option, const void *value)
{
	struct socket_filter_event *event = emit_reserve(EVENT_SOCKET_FILTER, sizeof(*event));
	struct socket *socket;
	struct sock *sk;

	if (!event)
		return 0;
	event->event.result = result;
	event->fd = fd;
	event->option = option;
	socket = socket_of(file_of(fd));
	if (socket) {
		sk = BPF_CORE_READ(socket, sk);
		event->family = BPF_CORE_READ(sk, __sk_common.skc_family);
		event->type = BPF_CORE_READ(socket, type);
		event->protocol = BPF_CORE_READ_BITFIELD_PROBED(sk, sk_protocol);
	}
	fill_filter(event, value);
	emit_submit(event, EVENT_SOCKET_FILTER);
	return 0;
}

/* long setsockopt(int fd, int level, int optname, char *optval, int optlen) */
SEC("tp/syscalls/sys_exit_setsockopt")
int exit_setsockopt(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	if (!attaches(ARGUMENT(REGISTER_ARG2), ARGUMENT(REGISTER_ARG3)))
		return 0;
	read_arguments(&passed);
	return attached(context->ret, passed.first, passed.third, (void *)passed.fourth);
}

/*
 * What the calls of 64 and of 32 bits and socketcall(2) have in common.
 *
 * int __sys_setsockopt(int fd, int level, int optname, char *user_optval, int optlen)
 */
SEC("fexit/__sys_setsockopt")
int BPF_PROG(end_setsockopt, int fd, int level, int option, __u64 value, int length, int result)
{
	if (!attaches(level, option))
		return 0;
	return attached(result, fd, option, (void *)value);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
