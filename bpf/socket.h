/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses of sockets, read from the socket itself. */
#ifndef NODEAGENT_SOCKET_H
#define NODEAGENT_SOCKET_H

#include "path.h"
#include <bpf/bpf_endian.h>

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_NETLINK 16
#define AF_PACKET 17

/* What a program on packets, sockets or addresses returns: let it pass. */
#define PASS 1

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

/* A struct sockaddr in the caller's memory; what is no Internet address stays empty. */
static __always_inline void fill_passed_endpoint(struct endpoint *to, const void *address)
{
	__u16 family = 0;
	__u16 port = 0;

	bpf_probe_read_user(&family, sizeof(family), address);
	if (family != AF_INET && family != AF_INET6)
		return;
	/* struct sockaddr_in: family, port, address; sockaddr_in6: flow label in between. */
	bpf_probe_read_user(&port, sizeof(port), address + 2);
	to->port = bpf_ntohs(port);
	to->family = family;
	if (family == AF_INET)
		bpf_probe_read_user(to->address, 4, address + 4);
	else
		bpf_probe_read_user(to->address, 16, address + 8);
}

#endif
