/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every record that crosses from the kernel to user space.
 *
 * This header alone says where bytes are. User space reads it from the object's
 * BTF and joins it by field name with the classes in nodeagent/event.py, so a
 * field that is added here and not there (or the other way round) stops the
 * start. Nothing here may contain padding.
 */
#ifndef NODEAGENT_EVENTS_H
#define NODEAGENT_EVENTS_H

enum event_kind {
	EVENT_EXEC = 1,
	EVENT_FORK = 2,
	EVENT_EXIT = 3,
	EVENT_OPEN = 4,
	EVENT_CONNECT = 5,
	EVENT_BIND = 6,
	EVENT_LISTEN = 7,
	EVENT_ACCEPT = 8,
	/* A process that was alive when the agent looked; never on a ring. */
	EVENT_PROCESS = 9,
};

/* Index of the counters of a kind; one more than the largest event_kind. */
#define EVENT_KINDS 10

/* Why a record did not reach a ring; the enumerators are labels in the ledger. */
enum lost_reason {
	LOST_RING_FULL = 0,
	/* Another program on this CPU was interrupted while it built a record. */
	LOST_SCRATCH_BUSY = 1,
};

#define LOST_REASONS 2

/* What became of the operations of one kind, per CPU. */
struct counters {
	__u64 seen;
	__u64 sent;
	__u64 filtered;
	__u64 aggregated;
	__u64 throttled;
	__u64 lost[LOST_REASONS];
	/* The sequence number of the next record: sent plus lost so far. */
	__u64 sequence;
};

/* Bytes in the tail of a record, counted from the start of the record. */
struct text {
	__u16 offset;
	__u16 length;
	/* There was more of it. */
	__u16 truncated;
	/* Negative errno when it could not be read, for example -EFAULT. */
	__s16 error;
};

/*
 * A path walked in kernel memory: names from the leaf to the root, each ended by
 * a NUL. "/" is a single NUL, a path that does not exist has no bytes.
 */
struct path_text {
	struct text leaf_first;
};

/* Strings that follow each other, each ended by a NUL. */
struct strings {
	struct text joined;
};

/*
 * Who did it. What identifies a process is its pid and start time together, and
 * what identifies the program that it runs is its exec_id besides.
 */
struct task {
	/* Boot-time clock, ns, of the thread group leader. */
	__u64 start_time;
	/* Id of the cgroup in the v2 hierarchy. */
	__u64 cgroup;
	/* The kernel's tgid. */
	__u32 pid;
	__u32 parent_pid;
	__u32 uid;
	__u32 gid;
	__u32 euid;
	__u32 egid;
	/* Audit's login uid and session; all ones when not set. */
	__u32 login_uid;
	__u32 session_id;
	/* How many programs it and its ancestors have run; changes with each exec. */
	__u32 exec_id;
	__u32 reserved;
	char comm[16];
};

/* The start of every record. */
struct event {
	/* Boot-time clock, ns. */
	__u64 time;
	/* Counts the records of this kind on this CPU, the lost ones too. */
	__u64 sequence;
	/* Bytes of the whole record. */
	__u32 size;
	__u16 kind;
	__u16 cpu;
	/* The kernel's pid. */
	__u32 tid;
	/* What the system call returned: negative errno when it failed. */
	__s32 result;
	struct task task;
};

/* Inode numbers of the namespaces in /proc/PID/ns. */
struct namespaces {
	__u32 cgroup;
	__u32 ipc;
	__u32 mnt;
	__u32 net;
	__u32 pid;
	__u32 time;
	__u32 user;
	__u32 uts;
};

/* What changes rarely in the life of a process, so it is not in every record. */
struct process_facts {
	__u64 parent_start_time;
	/* Effective capabilities, bit n is capability n. */
	__u64 capabilities;
	struct namespaces namespaces;
	/* The pid inside its own pid namespace. */
	__u32 namespace_pid;
	__u32 kernel_thread;
};

struct credentials {
	__u32 uid;
	__u32 gid;
	__u32 euid;
	__u32 egid;
};

/* The inode behind a path. */
struct file_id {
	__u64 inode;
	/* The kernel's dev_t: major << 20 | minor. */
	__u32 device;
	/* Type and permission bits as in stat(2). */
	__u32 mode;
};

/* What matters of a file that is about to run. */
struct file_owner {
	__u32 uid;
	__u32 gid;
	/* Hard links; zero when it has no name any more. */
	__u32 links;
	/* It lives in memory and never had a name: memfd_create(2). */
	__u32 memfd;
};

/* An address in network byte order; IPv4 uses the first four bytes. */
struct endpoint {
	__u8 address[16];
	/* Host byte order. */
	__u16 port;
	/* AF_INET or AF_INET6, 0 when there is no address. */
	__u16 family;
};

/* What a standard stream is connected to. */
struct stream {
	/* Type bits of the inode's mode; 0 when the descriptor is closed. */
	__u32 type;
	struct endpoint remote;
};

struct exec_event {
	struct event event;
	struct process_facts facts;
	struct file_id file;
	struct file_owner owner;
	/* Before the call; all ones when the call itself was not seen. */
	struct credentials old;
	__u32 argc;
	__u32 reserved;
	struct path_text path;
	struct path_text cwd;
	/* As passed to execve(2). */
	struct text filename;
	/* The file name again when it is a script, else empty. */
	struct text script;
	struct text interpreter;
	struct strings argv;
	/* Only LD_PRELOAD and LD_LIBRARY_PATH. */
	struct strings environment;
	struct stream stdio[3];
};

struct fork_event {
	struct event event;
	struct task child;
	struct process_facts facts;
	/* CLONE_* bits; all ones when it was no system call. */
	__u64 flags;
};

struct exit_event {
	struct event event;
	/* User and system time of all its threads. */
	__u64 cpu_ns;
	__u64 max_rss_bytes;
	/* As passed to exit(2). */
	__u32 code;
	/* The signal that ended it, or 0. */
	__u32 signal;
	__u32 core_dumped;
	/* 1 when the exit code is of exit_group(2) or a fatal signal. */
	__u32 group_exit;
};

struct open_event {
	struct event event;
	struct file_id file;
	/* O_* bits. */
	__u32 flags;
	__u32 created;
	/* Of the file that was opened. */
	struct path_text path;
	/* What was passed, when nothing was opened; read from the caller's memory. */
	struct text argument;
};

struct network_event {
	struct event event;
	struct endpoint local;
	struct endpoint remote;
	__u16 family;
	/* SOCK_* of socket(2). */
	__u16 type;
	/* IPPROTO_*. */
	__u16 protocol;
	/* The address comes from the caller's memory, not from the socket. */
	__u16 unverified;
	__u32 fd;
	__u32 backlog;
	/* Of the socket's file, AF_UNIX. */
	struct path_text path;
	/* Abstract name (starts with a NUL), or the name that was passed. */
	struct text name;
};

struct process_event {
	struct event event;
	struct process_facts facts;
	struct path_text path;
};

/*
 * One member for each kind, named like its enumerator. It holds the structs by
 * value, so that their layout reaches the object's BTF, and tells user space
 * which struct belongs to which kind.
 */
union record {
	struct exec_event exec;
	struct fork_event fork;
	struct exit_event exit;
	struct open_event open;
	struct network_event connect;
	struct network_event bind;
	struct network_event listen;
	struct network_event accept;
	struct process_event process;
};

#endif
