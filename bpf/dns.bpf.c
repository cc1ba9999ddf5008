// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* DNS messages, seen where the packets of a socket leave and arrive. */
#include <vmlinux.h>
#include "emit.h"
#include "packet.h"

/* The most that is kept of a message; a power of two. */
#define PAYLOAD_BYTES 4096
/* Messages of one packet that are told apart. */
#define MESSAGES 4

/* Who sends on a socket. */
struct sender {
	struct task task;
	__u32 tid;
	__u32 reserved;
};

/* What is known of one direction of a TCP stream. */
enum flow_state {
	/* It is older than the agent, or a packet was missed. */
	FLOW_LOST = 0,
	/* The next byte is the first one. */
	FLOW_NEW = 1,
	FLOW_KNOWN = 2,
};

struct flow {
	/* enum flow_state. */
	__u32 state;
	/* The sequence number of the first byte that was not seen yet. */
	__u32 next;
	/* Of the message that is under way, and what is still to come of it. */
	__u32 message_bytes;
	__u32 rest;
};

/* What is remembered of a socket that speaks DNS. */
struct speaker {
	/* Who sent last, or bound it. No task of its own comes with a packet that arrives. */
	struct sender sender;
	struct flow incoming;
	struct flow outgoing;
};

/* It ends with the socket. One that is accepted inherits it from the one that listens. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct speaker);
} speakers SEC(".maps");

/* A message, or a part of it. */
struct piece {
	__u32 bytes;
	__u32 message_bytes;
	__u32 message_offset;
};

static __always_inline __u64 dns_ports(void)
{
	struct settings *now = current_settings();

	return now ? now->dns_ports : 0;
}

static __always_inline bool is_dns_port(__u64 ports, __u32 port)
{
	for (int i = 0; i < 4; i++, ports >>= 16)
		if (port && port == (ports & 0xffff))
			return true;
	return false;
}

/* Whether it is worth looking at the packet: most sockets have a peer, with another port. */
static __always_inline bool may_speak_dns(__u64 ports, struct bpf_sock *sk)
{
	__u32 remote = bpf_ntohs(sk->dst_port);

	return !remote || is_dns_port(ports, remote) || is_dns_port(ports, sk->src_port);
}

/* False when the packet has nothing to do with DNS. */
static __always_inline bool read_transport(struct packet *packet, struct bpf_sock *sk, __u64 ports)
{
	__u32 at = transport_offset(packet->skb);

	packet->protocol = sk->protocol;
	packet->end = packet->skb->len;
	if (packet->protocol != IPPROTO_UDP && packet->protocol != IPPROTO_TCP)
		return false;
	if (!read_ports(packet, at))
		return false;
	if (!is_dns_port(ports, packet->remote.port) && !is_dns_port(ports, packet->local.port))
		return false;
	if (packet->protocol == IPPROTO_TCP)
		return read_tcp(packet, at);
	return read_udp(packet, at);
}

static __always_inline void append_payload(struct dns_event *dns, struct packet *packet, __u32 size)
{
	struct text *text = &dns->payload;
	struct scratch *scratch = scratch_of(dns);
	__u32 offset = 0;
	__u64 length;
	char *to = append_at(scratch, &offset);
	long error;

	/* By way of memory, so that the verifier does not compare what led to it. */
	*(volatile __u64 *)&scratch->cursor = size;
	length = *(volatile __u64 *)&scratch->cursor;
	if (length > PAYLOAD_BYTES)
		length = PAYLOAD_BYTES;
	if (!to || !length)
		return;
	/* Changes nothing, but shows the verifier that it is not 0. */
	barrier_var(length);
	length = ((length - 1) & (PAYLOAD_BYTES - 1)) + 1;
	text->offset = offset;
	error = bpf_skb_load_bytes(packet->skb, packet->at, to, length);
	if (error) {
		text->error = error;
		return;
	}
	scratch->used = offset + length;
	text->length = length;
	text->truncated = dns->message_offset + length < dns->message_bytes;
}

/* Where packet->at points to. */
static __always_inline void report(struct packet *packet, struct sender *sender,
				   const struct piece *piece)
{
	struct dns_event *dns = emit_reserve_of(EVENT_DNS, sizeof(*dns), &sender->task,
						sender->tid);

	if (!dns)
		return;
	dns->local = packet->local;
	dns->remote = packet->remote;
	dns->protocol = packet->protocol;
	dns->incoming = packet->incoming;
	dns->message_bytes = piece->message_bytes;
	dns->message_offset = piece->message_offset;
	append_payload(dns, packet, piece->bytes);
	emit_submit(dns, EVENT_DNS);
}

/* The length in front of each message of a TCP stream (RFC 1035, 4.2.2); false when it is cut. */
static __always_inline bool read_length(struct packet *packet, __u32 *length)
{
	__be16 prefix;

	if (bpf_skb_load_bytes(packet->skb, packet->at, &prefix, sizeof(prefix)))
		return false;
	*length = bpf_ntohs(prefix);
	return true;
}

/* Goes to the first byte of the stream that was not seen yet, or loses the way. */
static __always_inline void synchronise(struct packet *packet, struct flow *flow)
{
	__u32 length;
	__s32 seen;

	/* A packet that is exactly one message tells where messages start. */
	if (flow->state == FLOW_LOST && read_length(packet, &length) &&
	    packet->at + sizeof(__be16) + length == packet->end)
		flow->state = FLOW_NEW;
	if (flow->state == FLOW_NEW) {
		flow->state = FLOW_KNOWN;
		flow->next = packet->sequence;
		flow->rest = 0;
	}
	seen = flow->next - packet->sequence;
	if (seen < 0)
		flow->state = FLOW_LOST;
	/* What is sent again may end before that. */
	if (flow->state == FLOW_KNOWN)
		packet->at += seen;
}

/* The next message, or what of it is in this packet. All that is left, where that is unknown. */
static __always_inline void take_piece(struct packet *packet, struct flow *flow,
				       struct piece *piece)
{
	__u32 left = packet->end - packet->at;

	if (flow->state == FLOW_KNOWN && !flow->rest) {
		if (read_length(packet, &flow->rest)) {
			flow->message_bytes = flow->rest;
			flow->next += sizeof(__be16);
			packet->at += sizeof(__be16);
			left -= sizeof(__be16);
		} else {
			flow->state = FLOW_LOST;
		}
	}
	if (flow->state != FLOW_KNOWN) {
		piece->bytes = piece->message_bytes = left;
		piece->message_offset = 0;
		return;
	}
	piece->bytes = left < flow->rest ? left : flow->rest;
	piece->message_bytes = flow->message_bytes;
	piece->message_offset = flow->message_bytes - flow->rest;
	flow->next += piece->bytes;
	flow->rest -= piece->bytes;
}

static __always_inline void report_all(struct packet *packet, struct sender *sender,
				       struct flow *flow)
{
	struct piece piece;

	if (packet->protocol == IPPROTO_TCP)
		synchronise(packet, flow);
	for (int i = 0; i < MESSAGES && packet->at < packet->end; i++) {
		/* The last one gets all the others that there may be. */
		if (i == MESSAGES - 1)
			flow->state = FLOW_LOST;
		take_piece(packet, flow, &piece);
		if (piece.bytes)
			report(packet, sender, &piece);
		packet->at += piece.bytes;
	}
}

static __always_inline void report_packet(struct packet *packet, struct speaker *speaker)
{
	struct sender sender = {};
	struct flow flow = {};

	if (is_sent_by_current(packet)) {
		fill_sender(&sender.task, &sender.tid);
		if (speaker)
			speaker->sender = sender;
	} else if (speaker) {
		sender = speaker->sender;
	}
	if (speaker && packet->is_first)
		speaker->incoming.state = speaker->outgoing.state = FLOW_NEW;
	if (speaker)
		flow = packet->incoming ? speaker->incoming : speaker->outgoing;
	report_all(packet, &sender, &flow);
	if (speaker && packet->incoming)
		speaker->incoming = flow;
	else if (speaker)
		speaker->outgoing = flow;
}

static __always_inline int look_at(struct __sk_buff *skb, bool incoming)
{
	struct packet packet = { .skb = skb, .incoming = incoming };
	struct bpf_sock *sk = skb->sk;
	__u64 ports = dns_ports();

	if (!sk || !may_speak_dns(ports, sk))
		return PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk || !read_transport(&packet, sk, ports))
		return PASS;
	read_addresses(&packet);
	/* NULL when the socket may not have more memory: then only what it sends has a sender. */
	report_packet(&packet,
		      bpf_sk_storage_get(&speakers, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE));
	return PASS;
}

/* int ip_finish_output(struct net *net, struct sock *sk, struct sk_buff *skb), and that of IPv6 */
SEC("cgroup_skb/egress")
int on_packet_out(struct __sk_buff *skb)
{
	return look_at(skb, false);
}

/* int sk_filter_trim_cap(struct sock *sk, struct sk_buff *skb, unsigned int cap) */
SEC("cgroup_skb/ingress")
int on_packet_in(struct __sk_buff *skb)
{
	return look_at(skb, true);
}

/* A server gets its first message before it sends one. */
static __always_inline int bound(struct bpf_sock *sk)
{
	struct speaker *speaker;

	if (!is_dns_port(dns_ports(), sk->src_port))
		return PASS;
	speaker = bpf_sk_storage_get(&speakers, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (speaker)
		fill_sender(&speaker->sender.task, &speaker->sender.tid);
	return PASS;
}

/* int __inet_bind(struct sock *sk, struct sockaddr *uaddr, int addr_len, u32 flags) */
SEC("cgroup/post_bind4")
int on_bind4(struct bpf_sock *sk)
{
	return bound(sk);
}

/* int __inet6_bind(struct sock *sk, struct sockaddr *uaddr, int addr_len, u32 flags) */
SEC("cgroup/post_bind6")
int on_bind6(struct bpf_sock *sk)
{
	return bound(sk);
}
