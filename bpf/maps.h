/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Maps that the topics share; weak, so that the linker keeps one of each. */
#ifndef NODEAGENT_MAPS_H
#define NODEAGENT_MAPS_H

#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "events.h"
#include "settings.h"

#define __weak_map __weak SEC(".maps")

/* The longest record. A power of two: offsets are bounded by masking. */
#define RECORD_MAX 16384
/* One append may reach this far past RECORD_MAX. */
#define APPEND_MAX 8192

/* Fields of an object that lie within its first bytes are read at once. */
#define PEEK_BYTES 128

struct peek {
	char bytes[PEEK_BYTES];
};

/* Names of a path whose places are remembered; a power of two. */
#define PATH_NAMES 128

/* The largest record of an open whose repeats are counted. */
#define REPEATED_BYTES 512

/* What makes two opens the same. */
struct open_key {
	__u64 start_time;
	/* The kernel's address of the name, and the inode: an address is used again some day. */
	__u64 dentry;
	__u64 inode;
	__u32 pid;
	__u32 exec_id;
	__u32 euid;
	/* The kernel's hash of the last name of the path. */
	__u32 name_hash;
};

/* Repeats of one open. */
struct open_repeats {
	__u64 count;
	struct open_key open;
	/* Of the record. */
	__u64 size;
	char record[REPEATED_BYTES];
};

#define NAME_BYTES 256

/* The start of a path, as far as rules can tell paths apart. */
#define PREFIX_BYTES 128

struct prefix {
	__u32 bits;
	char path[PREFIX_BYTES];
};

/* Where a record is built; too large for the stack. */
struct scratch {
	__u32 busy;
	/* Bytes of the record so far. */
	__u32 used;
	/* Which of the scratches it is. */
	__u32 index;
	__u32 reserved;
	/*
	 * Where a loop stands. Kept here and not in registers, so that every
	 * iteration looks the same to the verifier.
	 */
	__u64 dentry;
	__u64 mount;
	__u64 mount_parent;
	__u64 mount_point;
	__u64 mount_root;
	__u64 cursor;
	__u64 end;
	__u64 inside;
	/* What walk_path() has appended, and where each of its names is. */
	struct text walked;
	/* What append_variables() has appended. */
	struct text variables;
	__u32 depth;
	__u16 names[PATH_NAMES];
	/* The path that was walked last, from the root on; room for one name behind it. */
	struct prefix prefix;
	char beyond_prefix[NAME_BYTES];
	struct open_repeats repeats;
	/* The start of a kernel object, see peek.h. */
	struct peek peek;
	char record[RECORD_MAX + APPEND_MAX];
};

/* The second entry serves a program that interrupts another one on the same CPU. */
#define SCRATCHES 2

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCHES);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches __weak_map;

/* Sizes are set by user space before load. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} high __weak_map;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} bulk __weak_map;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EVENT_KINDS);
	__type(key, __u32);
	__type(value, struct counters);
} counters __weak_map;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings __weak_map;

/* Keeps these types in BTF, where user space reads them; never used. */
struct wire {
	union record record;
	enum event_kind kind;
	enum lost_reason reason;
	enum mount_call mount_call;
	enum memory_region memory_region;
	enum setuid_call setuid_call;
	enum key_call key_call;
	struct open_repeats repeats;
	enum filter filter;
	enum path_rule path_rule;
	enum failed_opens failed_opens;
	__u32 reserved;
} *wire __weak;

/* When the reader was last woken for a first record; a race costs a wake-up at most. */
__u64 high_woken_at __weak;
__u64 bulk_woken_at __weak;

const volatile struct constants constants __weak = {};

#endif
