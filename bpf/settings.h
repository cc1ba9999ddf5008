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
	/* How many arguments io_uring_submit_sqe passes; 0: it does not exist (since v6.4). */
	__u32 submit_sqe_arguments;
	/* sched_process_exit passes whether the whole group died (since v6.16). */
	__u32 exit_has_group_dead;
	/* enum cgroup_controller: in whose hierarchy containers are looked for. */
	__u32 cgroup_controller;
};

/* The hierarchy of version 2, or that of a controller of version 1. */
enum cgroup_controller {
	CONTROLLER_NONE = 0,
	CONTROLLER_MEMORY = 1,
	CONTROLLER_PIDS = 2,
};

/* Which tables of filter.h hold something. */
enum filter {
	FILTER_CGROUPS = 1,
	FILTER_UIDS = 2,
	FILTER_PATHS = 4,
};

/* What a rule says about a path. */
enum path_rule {
	PATH_EXCLUDED = 1,
	/* Each open is reported. */
	PATH_WATCHED = 2,
};

/* Which opens that failed are reported. */
enum failed_opens {
	FAILED_OPENS_NONE = 0,
	FAILED_OPENS_DENIED = 1,
	FAILED_OPENS_ALL = 2,
};

/* Changed while running. */
struct settings {
	/* Bit n set: events of kind n are wanted. */
	__u64 kinds;
	/* Packets from or to these hold DNS messages: four ports of 16 bits each, 0: none. */
	__u64 dns_ports;
	/* The agent itself: its operations are counted as filtered. Filled by list_processes(). */
	__u32 own_pid;
	/* FILTER_* bits. */
	__u32 filters;
	/* enum failed_opens. */
	__u32 failed_opens;
	/* Count opens that only read when a program repeats them. */
	__u32 count_repeats;
	/* Which table of repeats is in use, by its lowest bit. */
	__u32 turn;
	/* The agent is about to end: nothing is counted any more. */
	__u32 stopped;
	/* Bit n set: events of kind n are shed. */
	__u64 shed;
	/* Of each other kind that is not precious a cgroup may show so many in a window; 0: any. */
	__u64 window_events;
	/*
	 * Bit n set: another agent watches, too, and of the two programs that see an operation
	 * of kind n ours is the first, or the second.
	 */
	__u64 first;
	__u64 second;
	/* That agent: its operations are counted as filtered, too. 0: there is none. */
	__u32 other_pid;
	__u32 reserved;
};

#endif
