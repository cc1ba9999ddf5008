/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses of sockets, read from the socket itself. */
#ifndef NODEAGENT_SOCKET_H
#define NODEAGENT_SOCKET_H

#include "path.h"
#include <bpf/bpf_endian.h>

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10

/* The socket behind an open file, or NULL when it is none. */
static __always_inline struct socket *socket_of(struct file *file)
{
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	return BPF_CORE_READ(file, private_data);
}

static __always_inline void fill_local(struct endpoint *to, struct sock *sk, __u16 family)
{
	if (family == AF_INET)
		bpf_core_read(to->address, 4, &sk->__sk_common.skc_rcv_saddr);
	else if (family == AF_INET6)
		bpf_core_read(to->address, 16, &sk->__sk_common.skc_v6_rcv_saddr);
	else
		return;
	to->port = BPF_CORE_READ(sk, __sk_common.skc_num);
	to->family = family;
}

static __always_inline void fill_remote(struct endpoint *to, struct sock *sk, __u16 family)
{
	__u16 port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));

	/* Not connected. */
	if (!port)
		return;
	if (family == AF_INET)
		bpf_core_read(to->address, 4, &sk->__sk_common.skc_daddr);
	else if (family == AF_INET6)
		bpf_core_read(to->address, 16, &sk->__sk_common.skc_v6_daddr);
	else
		return;
	to->port = port;
	to->family = family;
}

#endif
