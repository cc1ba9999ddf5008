/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Headers of UDP and TCP packets, for programs on the root of cgroup v2. */
#ifndef NODEAGENT_PACKET_H
#define NODEAGENT_PACKET_H

#include "socket.h"

#define ETH_P_IP 0x0800

/* Where the addresses are in their header: the source, and behind it the destination. */
#define IPV4_ADDRESSES 12
#define IPV6_ADDRESSES 8

/* Offsets count from the network header, which is where programs on packets start. */
struct packet {
	struct __sk_buff *skb;
	/* What is not looked at yet. */
	__u32 at;
	__u32 end;
	/* Of the first byte behind the TCP header. */
	__u32 sequence;
	__u16 protocol;
	bool incoming;
	/* SYN is set: a TCP stream starts. */
	bool is_first;
	/* It answers a SYN, for a socket that listens. */
	bool accepts;
	__u8 reserved[7];
	struct endpoint local;
	struct endpoint remote;
};

/* The ports are in the same place for UDP and TCP. */
struct ports {
	__be16 source;
	__be16 destination;
};

/* The kernel has found it already, whatever headers are in between. */
static __always_inline __u32 transport_offset(struct __sk_buff *skb)
{
	struct sk_buff *whole = (struct sk_buff *)skb;

	return BPF_CORE_READ(whole, transport_header) - BPF_CORE_READ(whole, network_header);
}

static __always_inline bool read_ports(struct packet *packet, __u32 at)
{
	struct ports ports;

	if (bpf_skb_load_bytes(packet->skb, at, &ports, sizeof(ports)))
		return false;
	packet->remote.port = bpf_ntohs(packet->incoming ? ports.source : ports.destination);
	packet->local.port = bpf_ntohs(packet->incoming ? ports.destination : ports.source);
	return true;
}

/* False when the packet has neither payload nor a meaning for the stream. */
static __always_inline bool read_tcp(struct packet *packet, __u32 at)
{
	struct tcphdr tcp;

	if (bpf_skb_load_bytes(packet->skb, at, &tcp, sizeof(tcp)))
		return false;
	packet->is_first = tcp.syn;
	packet->accepts = tcp.syn && tcp.ack;
	/* SYN has a number of its own. */
	packet->sequence = bpf_ntohl(tcp.seq) + tcp.syn;
	packet->at = at + tcp.doff * 4;
	return tcp.syn || packet->at < packet->end;
}

/* The same for UDP. */
static __always_inline bool read_udp(struct packet *packet, __u32 at)
{
	packet->at = at + sizeof(struct udphdr);
	return packet->at < packet->end;
}

static __always_inline void read_addresses(struct packet *packet)
{
	struct endpoint *source = packet->incoming ? &packet->remote : &packet->local;
	struct endpoint *destination = packet->incoming ? &packet->local : &packet->remote;

	if (packet->skb->protocol == bpf_htons(ETH_P_IP)) {
		source->family = destination->family = AF_INET;
		bpf_skb_load_bytes(packet->skb, IPV4_ADDRESSES, source->address, 4);
		bpf_skb_load_bytes(packet->skb, IPV4_ADDRESSES + 4, destination->address, 4);
	} else {
		source->family = destination->family = AF_INET6;
		bpf_skb_load_bytes(packet->skb, IPV6_ADDRESSES, source->address, 16);
		bpf_skb_load_bytes(packet->skb, IPV6_ADDRESSES + 16, destination->address, 16);
	}
}

/*
 * Whether it is the current task that sends. TCP sends in softirqs too, whatever task
 * they interrupt, but not while a task holds the lock of the socket; that of a socket
 * which listens says nothing.
 */
static __always_inline bool is_sent_by_current(struct packet *packet)
{
	struct sk_buff *skb = (struct sk_buff *)packet->skb;

	if (packet->incoming || packet->accepts)
		return false;
	return packet->protocol == IPPROTO_UDP || BPF_CORE_READ(skb, sk, sk_lock.owned);
}

#endif
