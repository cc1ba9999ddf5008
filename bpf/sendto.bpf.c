// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Datagrams to an address that their socket is not connected to, seen before they are sent. */
#include <vmlinux.h>
#include "emit.h"
#include "socket.h"

/* Who talks to everybody by one socket talks to many: of more addresses nothing new is learnt. */
#define RECIPIENTS 64
#define RECIPIENTS_NS 60000000000ULL

/* In front of an IPv4 address in an IPv6 one, ::ffff:0:0/96. */
#define MAPPED 0xffff

/*
 * A word of what the verifier translates, which takes no pointers into it; the compiler would make
 * one. The layout is part of the interface of the kernel.
 */
#define WORD(from, member)                                                         \
	({                                                                         \
		__u64 word;                                                        \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                              \
			     : "=r"(word)                                          \
			     : "r"(from), "i"(offsetof(typeof(*(from)), member))); \
		(__u32) word;                                                      \
	})
#define COPY_WORDS(to, from, member)             \
	do {                                     \
		(to)[0] = WORD(from, member[0]); \
		(to)[1] = WORD(from, member[1]); \
		(to)[2] = WORD(from, member[2]); \
		(to)[3] = WORD(from, member[3]); \
	} while (0)

/* To whom a socket has sent. */
struct recipients {
	/* When counting began. */
	__u64 since;
	__u32 count;
	struct endpoint last;
};

/* It ends with the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct recipients);
} recipients SEC(".maps");

/* Somebody whose datagram a socket has received. */
struct correspondent {
	/* The cookie of the socket. */
	__u64 socket;
	struct endpoint remote;
	__u32 reserved;
};

/* What is sent to them is an answer. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct correspondent);
	__type(value, __u8);
} correspondents SEC(".maps");

/* Whether that is one too many. */
static __always_inline bool is_crowd(struct recipients *known)
{
	__u64 now = bpf_ktime_get_ns();

	if (now - known->since > RECIPIENTS_NS) {
		known->since = now;
		known->count = 0;
	}
	known->count += known->count <= RECIPIENTS;
	return known->count > RECIPIENTS;
}

/* Whom a call names, or who has sent what it gets. */
static __always_inline void fill_named(struct endpoint *end, struct bpf_sock_addr *named,
				       __u16 family)
{
	__u32 *address = (__u32 *)end->address;

	end->family = family;
	end->port = bpf_ntohs(named->user_port);
	if (family == AF_INET) {
		address[0] = named->user_ip4;
		return;
	}
	COPY_WORDS(address, named, user_ip6);
	if (address[0] || address[1] || address[2] != bpf_htonl(MAPPED))
		return;
	/* What is sent there goes by IPv4. */
	end->family = AF_INET;
	address[0] = address[3];
	address[2] = address[3] = 0;
}

static __always_inline void fill_own(struct endpoint *end, struct bpf_sock *sk, __u16 family)
{
	__u32 *address = (__u32 *)end->address;

	end->family = family;
	end->port = sk->src_port;
	if (family == AF_INET)
		address[0] = sk->src_ip4;
	else
		COPY_WORDS(address, sk, src_ip6);
}

static __always_inline int sends(struct bpf_sock_addr *to, __u16 family)
{
	struct correspondent remote = { .socket = bpf_get_socket_cookie(to) };
	struct bpf_sock *sk = to->sk;
	struct recipients *known;
	struct sendto_event *event;

	if (!sk)
		return PASS;
	fill_named(&remote.remote, to, family);
	/* NULL when the socket may not have more memory: then each datagram is told. */
	known = bpf_sk_storage_get(&recipients, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (known && !__builtin_memcmp(&known->last, &remote.remote, sizeof(known->last)))
		return PASS;
	if (bpf_map_lookup_elem(&correspondents, &remote))
		return PASS;
	if (known) {
		known->last = remote.remote;
		if (is_crowd(known)) {
			emit_nothing(EVENT_SENDTO);
			return PASS;
		}
	}
	event = emit_reserve(EVENT_SENDTO, sizeof(*event));
	if (!event)
		return PASS;
	fill_own(&event->local, sk, family);
	event->remote = remote.remote;
	event->family = family;
	event->type = sk->type;
	event->protocol = sk->protocol;
	emit_submit(event, EVENT_SENDTO);
	return PASS;
}

static __always_inline int receives(struct bpf_sock_addr *from, __u16 family)
{
	struct correspondent remote = { .socket = bpf_get_socket_cookie(from) };
	__u8 is_known = true;

	fill_named(&remote.remote, from, family);
	if (!bpf_map_lookup_elem(&correspondents, &remote))
		bpf_map_update_elem(&correspondents, &remote, &is_known, BPF_ANY);
	return PASS;
}

/* int udp_sendmsg(struct sock *sk, struct msghdr *msg, size_t len) */
SEC("cgroup/sendmsg4")
int on_send4(struct bpf_sock_addr *to)
{
	return sends(to, AF_INET);
}

/* int udpv6_sendmsg(struct sock *sk, struct msghdr *msg, size_t len) */
SEC("cgroup/sendmsg6")
int on_send6(struct bpf_sock_addr *to)
{
	return sends(to, AF_INET6);
}

/* int udp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags, int *addr_len) */
SEC("cgroup/recvmsg4")
int on_receive4(struct bpf_sock_addr *from)
{
	return receives(from, AF_INET);
}

/* int udpv6_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags, int *addr_len) */
SEC("cgroup/recvmsg6")
int on_receive6(struct bpf_sock_addr *from)
{
	return receives(from, AF_INET6);
}
