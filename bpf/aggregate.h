/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Opens that only read, counted instead of reported when a program repeats them.
 *
 * The first one is reported, and its hash remembered. The second one is reported, too,
 * and gets an entry with a copy of its record. From then on the entry counts. User space
 * turns to the other table at an interval and takes the entries of the one that rests:
 * each is a record that says how many opens it stands for. Where there is no room for an
 * entry, each open is reported, so nothing is ever missed.
 */
#ifndef NODEAGENT_AGGREGATE_H
#define NODEAGENT_AGGREGATE_H

#include "emit.h"

#define RECENT_OPENS 16384

/* Hashes of opens; a collision makes an entry earlier than need be, and no more. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RECENT_OPENS);
	__type(key, __u32);
	__type(value, __u64);
} recent_opens SEC(".maps");

/*
 * By the hash, which the kernel finds in half of the time that the whole key takes. An open with
 * the hash of another one is reported each time.
 */
#define REPEATS_TABLE                               \
	{                                           \
		__uint(type, BPF_MAP_TYPE_HASH);    \
		__uint(max_entries, 4096);          \
		__type(key, __u64);                 \
		__type(value, struct open_repeats); \
	}

struct REPEATS_TABLE even_repeats SEC(".maps");
struct REPEATS_TABLE odd_repeats SEC(".maps");

/* Without the address, with which nobody may calculate where the verifier knows what is there. */
static __always_inline __u64 hash_of(const struct open_key *key)
{
	__u64 hash = key->start_time;

	hash = hash * 0x9e3779b97f4a7c15 + key->inode;
	hash = hash * 0x9e3779b97f4a7c15 + ((__u64)key->exec_id << 32 | key->pid);
	hash = hash * 0x9e3779b97f4a7c15 + ((__u64)key->name_hash << 32 | key->euid);
	return hash ^ hash >> 32;
}

static __always_inline bool is_same(const struct open_key *one, const struct open_key *other)
{
	return one->start_time == other->start_time && one->dentry == other->dentry &&
	       one->inode == other->inode && one->pid == other->pid &&
	       one->exec_id == other->exec_id && one->euid == other->euid;
}

/* Counts the open; false when it is the first one, or has no entry. */
static __always_inline bool is_counted(struct settings *now, const struct open_key *key, __u64 hash)
{
	struct open_repeats *repeats;

	if (now->turn & 1)
		repeats = bpf_map_lookup_elem(&odd_repeats, &hash);
	else
		repeats = bpf_map_lookup_elem(&even_repeats, &hash);
	if (!repeats || !is_same(&repeats->open, key))
		return false;
	COUNT(repeats->count);
	return true;
}

/* Whether the same was done not long ago; remembers it. */
static __always_inline bool is_known(__u64 hash)
{
	__u32 index = hash & (RECENT_OPENS - 1);
	__u64 *recent = bpf_map_lookup_elem(&recent_opens, &index);

	if (!recent)
		return false;
	if (*recent == hash)
		return true;
	*recent = hash;
	return false;
}

/* The next ones like this are counted. */
static __always_inline void count_from_now(struct settings *now, struct scratch *scratch,
					   const struct open_key *key, __u64 hash)
{
	struct open_repeats *repeats = &scratch->repeats;
	__u64 size = scratch->used;

	barrier_var(size);
	if (size > REPEATED_BYTES)
		return;
	repeats->count = 0;
	repeats->open = *key;
	repeats->size = size;
	bpf_probe_read_kernel(repeats->record, size, scratch->record);
	if (now->turn & 1)
		bpf_map_update_elem(&odd_repeats, &hash, repeats, BPF_NOEXIST);
	else
		bpf_map_update_elem(&even_repeats, &hash, repeats, BPF_NOEXIST);
}

#endif
