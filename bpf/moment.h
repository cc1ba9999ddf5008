/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One moment for what two agents see. When one takes over from another, the programs of both
 * run for the same operation, one right after the other. The first writes down when it was,
 * the second takes that instead of its own clock, so that both tell one event.
 */
#ifndef NODEAGENT_MOMENT_H
#define NODEAGENT_MOMENT_H

#include "maps.h"

/* Two programs of one operation are not further apart, even where the thread has to wait in between. */
#define MOMENT_NS 1000000000

/* An operation: a thread is never in two of one kind. */
struct moment_key {
	__u32 tid;
	__u32 kind;
};

struct moment {
	/* Boot-time clock, ns. */
	__u64 time;
	/* The second agent has not taken it yet. */
	__u64 is_new;
};

/* The new agent uses the map of the old one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct moment_key);
	__type(value, struct moment);
} moments __weak_map;

static __always_inline bool is_shared(const struct settings *now, __u32 kind)
{
	return ((now->first | now->second) >> kind) & 1;
}

/* Where the moment of an operation is agreed on; a function of its own for the verifier. */
__weak int agree(__u32 tid, __u32 kind, __u32 is_first)
{
	struct moment_key key = { .tid = tid, .kind = kind };
	struct moment own = { .time = bpf_ktime_get_boot_ns(), .is_new = is_first };
	struct moment *known = bpf_map_lookup_elem(&moments, &key);

	if (!is_first && known && known->is_new && own.time - known->time < MOMENT_NS)
		known->is_new = 0;
	else
		bpf_map_update_elem(&moments, &key, &own, BPF_ANY);
	return 0;
}

/* What was agreed on. */
static __always_inline __u64 agreed(__u32 tid, __u32 kind)
{
	struct moment_key key = { .tid = tid, .kind = kind };
	struct moment *known = bpf_map_lookup_elem(&moments, &key);

	return known ? known->time : bpf_ktime_get_boot_ns();
}

#endif
