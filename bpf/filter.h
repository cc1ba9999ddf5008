/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the policy leaves out: by cgroup, user and path. All of it can change while running. */
#ifndef NODEAGENT_FILTER_H
#define NODEAGENT_FILTER_H

#include "maps.h"
#include "compat.h"

/* Names of a path that rules can tell apart. */
#define PREFIX_NAMES 24

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u8);
} excluded_cgroups __weak_map;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u8);
} excluded_uids __weak_map;

/* The longest prefix of a path decides. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u32);
} path_rules __weak_map;

/* Whether nothing is wanted of a task of this cgroup and user. */
static __always_inline bool is_excluded(struct settings *now, __u64 cgroup, __u32 uid)
{
	if ((now->filters & FILTER_CGROUPS) && bpf_map_lookup_elem(&excluded_cgroups, &cgroup))
		return true;
	return (now->filters & FILTER_UIDS) && bpf_map_lookup_elem(&excluded_uids, &uid);
}

/* The start of the path that was walked last, from the root on. */
static __always_inline void read_prefix(struct scratch *scratch)
{
	__u32 depth = scratch->depth;
	__u32 length = 0;

	for (int step = 0; step < PREFIX_NAMES; step++) {
		__u32 offset;
		long copied;

		if (!depth || length >= PREFIX_BYTES - 1)
			break;
		depth--;
		barrier_var(depth);
		offset = scratch->names[depth & (PATH_NAMES - 1)];
		barrier_var(offset);
		offset &= RECORD_MAX - 1;
		barrier_var(length);
		length &= PREFIX_BYTES - 1;
		scratch->prefix.path[length] = '/';
		copied = bpf_probe_read_kernel_str(&scratch->prefix.path[length + 1], NAME_BYTES,
						   &scratch->record[offset]);
		if (copied > 0)
			length += copied;
	}
	scratch->prefix.bits = (length < PREFIX_BYTES ? length : PREFIX_BYTES) * 8;
}

/* What the rules say about the path that was walked last; a function of its own for the verifier. */
__weak int path_rule(__u32 index)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &index);
	__u32 *rule;

	if (!scratch)
		return 0;
	read_prefix(scratch);
	rule = bpf_map_lookup_elem(&path_rules, &scratch->prefix);
	return rule ? *rule : 0;
}

#endif
