/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent sheds to stay within its budget, before any work is done for it. */
#ifndef NODEAGENT_BUDGET_H
#define NODEAGENT_BUDGET_H

#include "maps.h"

/* Each cgroup may show so many events of a kind in each window of 2^29 ns (537 ms). */
#define WINDOW_SHIFT 29

struct shown_key {
	__u64 cgroup;
	__u32 kind;
	__u32 reserved;
};

struct shown {
	__u64 window;
	__u64 events;
};

/* Of more cgroups than that the one that was quiet longest begins anew. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct shown_key);
	__type(value, struct shown);
} buckets __weak_map;

/*
 * Whether there is room for one more event of @kind in this cgroup. A race between CPUs at
 * the start of a window lets a few more through. A function of its own for the verifier.
 */
__weak int is_over_budget(__u32 kind, __u64 cgroup)
{
	__u64 window = bpf_ktime_get_boot_ns() >> WINDOW_SHIFT;
	struct shown_key key = { .cgroup = cgroup, .kind = kind };
	struct shown first = { .window = window, .events = 1 };
	__u32 zero = 0;
	struct settings *now = bpf_map_lookup_elem(&settings, &zero);
	struct shown *bucket;

	if (!now)
		return 0;
	if (now->shed & (1ULL << (kind & 63)))
		return 1;
	if (!now->window_events)
		return 0;
	bucket = bpf_map_lookup_elem(&buckets, &key);
	if (!bucket) {
		bpf_map_update_elem(&buckets, &key, &first, BPF_ANY);
		return 0;
	}
	if (bucket->window != window) {
		bucket->window = window;
		bucket->events = 0;
	}
	/* An addition that also returns something would need v5.12. */
	__sync_fetch_and_add(&bucket->events, 1);
	return *(volatile __u64 *)&bucket->events > now->window_events;
}

#endif
