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
	EVENT_SOCKET = 10,
	EVENT_DUP = 11,
	EVENT_DNS = 12,
	EVENT_RENAME = 13,
	EVENT_LINK = 14,
	EVENT_SYMLINK = 15,
	EVENT_UNLINK = 16,
	EVENT_CHMOD = 17,
	EVENT_CHOWN = 18,
	EVENT_MOUNT = 19,
	EVENT_UMOUNT = 20,
	EVENT_MMAP = 21,
	EVENT_MPROTECT = 22,
	EVENT_MEMFD = 23,
	EVENT_PTRACE = 24,
	EVENT_VM_READ = 25,
	EVENT_VM_WRITE = 26,
	EVENT_SETUID = 27,
	EVENT_CAPSET = 28,
	EVENT_MODULE = 29,
	EVENT_BPF = 30,
	EVENT_USERFAULTFD = 31,
	EVENT_UNSHARE = 32,
	EVENT_SETNS = 33,
	EVENT_PIVOT_ROOT = 34,
	EVENT_CHROOT = 35,
	EVENT_KEYCTL = 36,
	EVENT_IO_URING = 37,
	EVENT_KILL = 38,
	EVENT_NEW_CGROUP = 39,
	/* A socket that was open when the agent looked. */
	EVENT_OLDER_SOCKET = 40,
	EVENT_SOCKET_FILTER = 41,
	/* Found by a look at the kernel's memory. */
	EVENT_KERNEL_HOOK = 42,
	EVENT_SENDTO = 43,
};

/* Index of the counters of a kind; one more than the largest event_kind. */
#define EVENT_KINDS 44

/* Kinds with a ring of their own; a dup is one of them when it makes a standard stream a socket. */
#define HIGH_VALUE                                                                            \
	(1ULL << EVENT_EXEC | 1ULL << EVENT_FORK | 1ULL << EVENT_EXIT | 1ULL << EVENT_MOUNT | \
	 1ULL << EVENT_UMOUNT | 1ULL << EVENT_MEMFD | 1ULL << EVENT_PTRACE |                  \
	 1ULL << EVENT_VM_READ | 1ULL << EVENT_VM_WRITE | 1ULL << EVENT_SETUID |              \
	 1ULL << EVENT_CAPSET | 1ULL << EVENT_MODULE | 1ULL << EVENT_BPF |                    \
	 1ULL << EVENT_USERFAULTFD | 1ULL << EVENT_UNSHARE | 1ULL << EVENT_SETNS |            \
	 1ULL << EVENT_PIVOT_ROOT | 1ULL << EVENT_CHROOT | 1ULL << EVENT_KEYCTL |             \
	 1ULL << EVENT_KILL | 1ULL << EVENT_NEW_CGROUP | 1ULL << EVENT_SOCKET_FILTER |        \
	 1ULL << EVENT_KERNEL_HOOK)

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
	/* The sequence number of the next record: sent plus lost plus throttled so far. */
	__u64 sequence;
	/* Of those that were seen, the agent's own. */
	__u64 own;
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

/*
 * A file that a call names. Where a hook sees the kernel's own object, @path is its
 * real path. Elsewhere @argument is what was passed and @base is the real path of the
 * directory where it starts: for an absolute argument the root of the caller.
 */
struct target {
	struct path_text path;
	struct path_text base;
	struct text argument;
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
	/* Id of the cgroup, in version 2 or the hierarchy of a controller of version 1. */
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

/* What its content was: another one has another of these. */
struct file_version {
	/* When inode or content changed last, ns since 1970 (ctime). */
	__s64 changed_ns;
	__u64 bytes;
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
	/* Of a pipe, the same at its other end; else 0. */
	__u64 inode;
};

struct exec_event {
	struct event event;
	struct process_facts facts;
	struct file_id file;
	struct file_version version;
	struct file_owner owner;
	/* Before the call; all ones when the call itself was not seen. */
	struct credentials old;
	__u32 argc;
	/* See personality(2). */
	__u32 personality;
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
	/* Opens that this record stands for. */
	__u32 count;
	/* They are repeats that were counted since the last such record; the time is that of now. */
	__u32 summary;
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

/* A datagram; its socket may be connected to somebody else, or to nobody. */
struct sendto_event {
	struct event event;
	struct endpoint local;
	struct endpoint remote;
	__u16 family;
	/* SOCK_* of socket(2). */
	__u16 type;
	/* IPPROTO_*. */
	__u16 protocol;
	__u16 reserved;
};

struct socket_event {
	struct event event;
	__u16 family;
	/* SOCK_* of socket(2), without SOCK_CLOEXEC and SOCK_NONBLOCK. */
	__u16 type;
	/* IPPROTO_*, as passed. */
	__u32 protocol;
};

/* A filter was attached to a socket. */
struct socket_filter_event {
	struct event event;
	__u16 family;
	__u16 type;
	__u32 protocol;
	__u32 fd;
	/* SO_ATTACH_*. */
	__u32 option;
	/* Of a classic filter, as passed. */
	__u32 instructions;
	/* Of eBPF. */
	__u32 program_id;
};

struct dup_event {
	struct event event;
	/* Of the socket behind the descriptor; family is 0 when it is none. */
	struct endpoint local;
	struct endpoint remote;
	__u16 family;
	__u16 type;
	__u32 protocol;
	__u32 old_fd;
	/* All ones when the call failed. */
	__u32 new_fd;
	/* Whose descriptor it was, as the kernel's pid; differs only for pidfd_getfd(2). */
	__u32 from_pid;
	__u32 reserved;
	/* Of the file behind the descriptor. */
	struct path_text path;
};

struct dns_event {
	struct event event;
	struct endpoint local;
	struct endpoint remote;
	/* IPPROTO_UDP or IPPROTO_TCP. */
	__u16 protocol;
	/* 1 when it came from the remote end. */
	__u16 incoming;
	/* Of the whole message, of which @payload may be a part. */
	__u32 message_bytes;
	/* Where in the message @payload starts: TCP may carry it in pieces. */
	__u32 message_offset;
	__u32 reserved;
	struct text payload;
};

struct rename_event {
	struct event event;
	struct target old;
	struct target new;
	/* RENAME_* bits. */
	__u32 flags;
	/* The paths come from the caller's memory. */
	__u32 unverified;
};

struct link_event {
	struct event event;
	/* What is there already. */
	struct target target;
	/* The new name. */
	struct target link;
	/* AT_* bits. */
	__u32 flags;
	__u32 unverified;
};

struct symlink_event {
	struct event event;
	/* What the link says; need not exist. */
	struct text target;
	struct target link;
	__u32 unverified;
	__u32 reserved;
};

struct unlink_event {
	struct event event;
	struct target file;
	/* AT_* bits; AT_REMOVEDIR for rmdir(2). */
	__u32 flags;
	__u32 unverified;
};

struct chmod_event {
	struct event event;
	struct target file;
	__u32 mode;
	__u32 unverified;
};

struct chown_event {
	struct event event;
	struct target file;
	/* All ones: not changed. */
	__u32 uid;
	__u32 gid;
	__u32 unverified;
	__u32 reserved;
};

/* Which call mounted. */
enum mount_call {
	MOUNT_CALL_MOUNT = 0,
	MOUNT_CALL_MOVE_MOUNT = 1,
	MOUNT_CALL_MOUNT_SETATTR = 2,
};

struct mount_event {
	struct event event;
	/* MS_* bits of mount(2). */
	__u64 flags;
	/* MOUNT_ATTR_* bits that mount_setattr(2) sets, and those that it clears. */
	__u64 attributes;
	__u64 cleared;
	/* A device, a folder, or any word; only a folder has a base. */
	struct target source;
	struct target target;
	/* Of the file system. */
	struct text type;
	/* enum mount_call. */
	__u32 call;
	__u32 unverified;
};

struct umount_event {
	struct event event;
	struct target target;
	/* MNT_* and UMOUNT_* bits. */
	__u32 flags;
	__u32 unverified;
};

struct mmap_event {
	struct event event;
	__u64 address;
	__u64 length;
	struct file_id file;
	struct file_version version;
	/* PROT_* bits. */
	__u32 protection;
	/* MAP_* bits. */
	__u32 flags;
	struct path_text path;
};

/* What a range of addresses belongs to. */
enum memory_region {
	REGION_UNKNOWN = 0,
	REGION_STACK = 1,
	REGION_HEAP = 2,
	REGION_FILE = 3,
	REGION_ANONYMOUS = 4,
};

struct mprotect_event {
	struct event event;
	__u64 address;
	__u64 length;
	/* PROT_* bits. */
	__u32 protection;
	/* Of the start of the range; all ones when it is not known. */
	__u32 old_protection;
	/* enum memory_region, of the start of the range. */
	__u32 region;
	__u32 reserved;
	/* Of the file that is mapped there. */
	struct path_text path;
};

struct memfd_event {
	struct event event;
	/* MFD_* bits; O_* bits of memfd_secret(2). */
	__u32 flags;
	/* All ones when the call failed. */
	__u32 fd;
	/* It is one of memfd_secret(2), which only its owner can read. */
	__u32 secret;
	__u32 reserved;
	struct text name;
};

/*
 * Another process that a call is about. Where a hook sees the kernel's own object,
 * @pid is the kernel's pid and @start_time is set. Elsewhere there is only the number
 * that was passed: it counts in the pid namespace of the caller, and a negative one is
 * a group of processes.
 */
struct other {
	__u64 start_time;
	__u32 pid;
	__s32 passed_pid;
};

struct ptrace_event {
	struct event event;
	struct other target;
	__u64 address;
	__u64 data;
	/* PTRACE_*. */
	__u32 request;
	__u32 reserved;
};

struct vm_event {
	struct event event;
	struct other target;
	/* Where in the other process the first piece starts. */
	__u64 address;
	__u32 flags;
	__u32 reserved;
};

struct ids {
	__u32 uid;
	__u32 gid;
	__u32 euid;
	__u32 egid;
	__u32 suid;
	__u32 sgid;
	__u32 fsuid;
	__u32 fsgid;
};

/* Which call changed the ids. */
enum setuid_call {
	SETUID_CALL_SETUID = 0,
	SETUID_CALL_SETGID = 1,
	SETUID_CALL_SETREUID = 2,
	SETUID_CALL_SETREGID = 3,
	SETUID_CALL_SETRESUID = 4,
	SETUID_CALL_SETRESGID = 5,
	SETUID_CALL_SETFSUID = 6,
	SETUID_CALL_SETFSGID = 7,
};

struct setuid_event {
	struct event event;
	/* After the call. */
	struct process_facts facts;
	/* Before the call; all ones when its start was not seen. */
	struct ids old;
	struct ids new;
	/* As passed, in the user namespace of the caller; all ones: not asked for. */
	__u32 asked_real;
	__u32 asked_effective;
	__u32 asked_saved;
	__u32 asked_fs;
	/* enum setuid_call. */
	__u32 call;
	__u32 reserved;
};

/* Bit n is capability n. */
struct capability_sets {
	__u64 effective;
	__u64 permitted;
	__u64 inheritable;
};

struct capset_event {
	struct event event;
	/* After the call. */
	struct process_facts facts;
	/* Before the call; all ones when its start was not seen. */
	struct capability_sets old;
	struct capability_sets new;
};

struct module_event {
	struct event event;
	/* As the kernel knows it; empty when it refused the file before it knew. */
	struct text name;
	/* Where it was loaded from a file. */
	struct path_text path;
	struct text parameters;
	struct file_id file;
	struct file_version version;
	/* MODULE_INIT_* bits for loads, O_* bits for unloads. */
	__u32 flags;
	__u32 unloaded;
};

struct bpf_event {
	struct event event;
	/* enum bpf_cmd. */
	__u32 command;
	/* enum bpf_prog_type of the program that it is about, or all ones. */
	__u32 program_type;
	/* enum bpf_attach_type, or all ones. */
	__u32 attach_type;
	__u32 program_id;
	__u32 map_id;
	__u32 link_id;
	/* It is about a map or program of the agent. */
	__u32 own;
	__u32 reserved;
	/* Of the program or map. */
	struct text name;
	/* The function or tracepoint that it is attached to, where the kernel knows. */
	struct text attach_point;
	/* Of the pin, as passed. */
	struct text pathname;
};

struct userfaultfd_event {
	struct event event;
	__u32 flags;
	__u32 reserved;
};

struct unshare_event {
	struct event event;
	/* After the call. */
	struct process_facts facts;
	/* CLONE_* bits. */
	__u64 flags;
};

struct setns_event {
	struct event event;
	/* After the call. */
	struct process_facts facts;
	/* CLONE_* bits of the namespaces that were asked for; 0: whatever it is. */
	__u64 flags;
	/* Of the namespace, as in /proc/PID/ns; 0 for a pidfd. */
	__u32 inode;
	/* Whose namespaces, for a pidfd. */
	__u32 target_pid;
	/* Of the namespace: mnt, net, pid … */
	struct text namespace_type;
};

struct pivot_root_event {
	struct event event;
	struct target new_root;
	struct target put_old;
	__u32 unverified;
	__u32 reserved;
};

struct chroot_event {
	struct event event;
	struct target root;
	__u32 unverified;
	__u32 reserved;
};

/* A cgroup was made, in the hierarchy in which containers are looked for. */
struct new_cgroup_event {
	struct event event;
	__u64 id;
	/* From the root of the hierarchy. */
	struct text path;
};

/* Which call it was. */
enum key_call {
	KEY_CALL_KEYCTL = 0,
	KEY_CALL_ADD_KEY = 1,
	KEY_CALL_REQUEST_KEY = 2,
};

struct keyctl_event {
	struct event event;
	/* KEYCTL_*; all ones for the other calls. */
	__u32 operation;
	/* enum key_call. */
	__u32 call;
	/* Serial of the key that is acted on, or the keyring that gets a new one; 0: none. */
	__s32 key;
	__u32 reserved;
	struct text type;
	struct text description;
};

/* What a ring of io_uring did. */
struct io_uring_event {
	struct event event;
	/* Of connect, bind and accept. */
	struct endpoint remote;
	/* IORING_OP_*; all ones: the ring was set up. */
	__u32 operation;
	/* IORING_SETUP_* bits, or those of the request. */
	__u32 flags;
	/* Of the ring that was set up, else what the request acts on; all ones: none. */
	__u32 fd;
	/* Submissions that fit in the ring that was set up. */
	__u32 entries;
	__u32 reserved;
	/* Of the file that the request acts on. */
	struct path_text path;
	/* The file name that the request names, as the kernel has copied it. */
	struct text argument;
};

struct kill_event {
	struct event event;
	struct other target;
	__u32 signal;
	/* One thread of the target and not all; 0: all. */
	__u32 target_tid;
};

/* A pointer of the kernel leads out of the kernel's own code. */
struct kernel_hook_event {
	struct event event;
	/* Where it leads. */
	__u64 address;
	/* Which one of the table. */
	__u32 index;
	__u32 reserved;
	/* The kernel's name of where the pointer is. */
	struct text table;
	/* Empty when the address is of no module. */
	struct text module;
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
	struct socket_event socket;
	struct dup_event dup;
	struct dns_event dns;
	struct rename_event rename;
	struct link_event link;
	struct symlink_event symlink;
	struct unlink_event unlink;
	struct chmod_event chmod;
	struct chown_event chown;
	struct mount_event mount;
	struct umount_event umount;
	struct mmap_event mmap;
	struct mprotect_event mprotect;
	struct memfd_event memfd;
	struct ptrace_event ptrace;
	struct vm_event vm_read;
	struct vm_event vm_write;
	struct setuid_event setuid;
	struct capset_event capset;
	struct module_event module;
	struct bpf_event bpf;
	struct userfaultfd_event userfaultfd;
	struct unshare_event unshare;
	struct setns_event setns;
	struct pivot_root_event pivot_root;
	struct chroot_event chroot;
	struct keyctl_event keyctl;
	struct io_uring_event io_uring;
	struct kill_event kill;
	struct new_cgroup_event new_cgroup;
	struct network_event older_socket;
	struct socket_filter_event socket_filter;
	struct kernel_hook_event kernel_hook;
	struct sendto_event sendto;
};

#endif
