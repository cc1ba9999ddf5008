/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What user space decides: before load (constants) and while running (the settings map). */
#ifndef NODEAGENT_SETTINGS_H
#define NODEAGENT_SETTINGS_H

/*
 * Fixed at load, so that the verifier drops the branches that are not taken.
 * Filled by user space through the object's .rodata, see kernel/object.py.
 */
struct constants {
	/* Copy at most this much of the argument vector. */
	__u32 argv_bytes;
	/* The reader rests this long after a batch; no need to wake it earlier. */
	__u32 pause_ns;
	__u32 high_ring_bytes;
	__u32 bulk_ring_bytes;
	__u32 page_bytes;
	/* sched_process_exit passes whether the whole group died (since v6.16). */
	__u32 exit_has_group_dead;
};

/* Changed while running. */
struct settings {
	/* Bit n set: events of kind n are wanted. */
	__u64 kinds;
	/* The agent itself: its operations are counted as filtered. Filled by list_processes(). */
	__u32 own_pid;
	__u32 reserved;
};

#endif
