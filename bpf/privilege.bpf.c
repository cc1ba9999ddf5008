// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Privileges: user and group ids, capabilities, namespaces, keys. */
#include <vmlinux.h>
#include "call.h"
#include "emit.h"
#include "path.h"
#include "pidfd.h"

#define NSFS_MAGIC 0x6e736673

/* The longest name of a kind of namespace: pid_for_children. */
#define NAMESPACE_BYTES 32
/* Of a type of key; the kernel refuses longer ones. */
#define KEY_TYPE_BYTES 32

/* An argument of the calls that change ids: leave it as it is. */
#define NOT_ASKED ((__u32) - 1)

/* The ids of threads that are about to change them. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct ids);
} ids_before SEC(".maps");

/* The same for capabilities. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct capability_sets);
} sets_before SEC(".maps");

#define FILL_IDS(READ, to, task)                           \
	do {                                               \
		(to)->uid = READ(task, cred, uid.val);     \
		(to)->gid = READ(task, cred, gid.val);     \
		(to)->euid = READ(task, cred, euid.val);   \
		(to)->egid = READ(task, cred, egid.val);   \
		(to)->suid = READ(task, cred, suid.val);   \
		(to)->sgid = READ(task, cred, sgid.val);   \
		(to)->fsuid = READ(task, cred, fsuid.val); \
		(to)->fsgid = READ(task, cred, fsgid.val); \
	} while (0)

static __always_inline void fill_ids(struct ids *to)
{
	if (HAS_TYPED_TASK) {
		struct task_struct *task = bpf_get_current_task_btf();

		FILL_IDS(LOADED, to, task);
	} else {
		struct task_struct *task = (struct task_struct *)bpf_get_current_task();

		FILL_IDS(BPF_CORE_READ, to, task);
	}
}

static __always_inline int remember_ids(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct ids ids;

	fill_ids(&ids);
	bpf_map_update_elem(&ids_before, &thread, &ids, BPF_ANY);
	return 0;
}

/* Takes what remember_ids() left. */
static __always_inline void take_ids(struct ids *to)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct ids *before = bpf_map_lookup_elem(&ids_before, &thread);

	if (!before) {
		__builtin_memset(to, 0xff, sizeof(*to));
		return;
	}
	*to = *before;
	bpf_map_delete_elem(&ids_before, &thread);
}

/* What a call asks for, or NOT_ASKED. */
struct asked {
	__u32 real;
	__u32 effective;
	__u32 saved;
	__u32 fs;
};

static __always_inline int changed_ids(long result, enum setuid_call call, struct asked asked)
{
	bool is_fs = call == SETUID_CALL_SETFSUID || call == SETUID_CALL_SETFSGID;
	struct setuid_event *event;
	struct ids old;

	take_ids(&old);
	/* How a program asks for the id that it has. */
	if (is_fs && asked.fs == NOT_ASKED)
		return 0;
	event = emit_reserve(EVENT_SETUID, sizeof(*event));
	if (!event)
		return 0;
	/* setfsuid(2) and setfsgid(2) return the old id, whatever they did. */
	event->event.result = is_fs ? 0 : result;
	event->call = call;
	event->asked_real = asked.real;
	event->asked_effective = asked.effective;
	event->asked_saved = asked.saved;
	event->asked_fs = asked.fs;
	event->old = old;
	fill_ids(&event->new);
	fill_facts_now(&event->facts);
	emit_submit(event, EVENT_SETUID);
	return 0;
}

/* Those of a function of the kernel's, which takes one to three. */
static __always_inline void take_arguments(struct arguments *to, const __u64 *context, int count)
{
	to->first = context[0];
	if (count > 1)
		to->second = context[1];
	if (count > 2)
		to->third = context[2];
}

/*
 * The programs of a call, for its tracepoints and for the function that the calls of 64 and
 * of 32 bits have in common. The last arguments are the members of struct asked.
 */
#define CHANGES_IDS(name, call, count, real, effective, saved, fs)                \
	SEC("tp/syscalls/sys_enter_" #name)                                       \
	int enter_##name(struct trace_event_raw_sys_enter *context)               \
	{                                                                         \
		return remember_ids();                                            \
	}                                                                         \
                                                                                  \
	SEC("tp/syscalls/sys_exit_" #name)                                        \
	int exit_##name(struct trace_event_raw_sys_exit *context)                 \
	{                                                                         \
		struct arguments passed;                                          \
                                                                                  \
		read_arguments(&passed);                                          \
		return changed_ids(context->ret, call,                            \
				   (struct asked){ real, effective, saved, fs }); \
	}                                                                         \
                                                                                  \
	SEC("fentry/__sys_" #name)                                                \
	int begin_##name(__u64 *context)                                          \
	{                                                                         \
		return remember_ids();                                            \
	}                                                                         \
                                                                                  \
	SEC("fexit/__sys_" #name)                                                 \
	int end_##name(__u64 *context)                                            \
	{                                                                         \
		struct arguments passed;                                          \
                                                                                  \
		take_arguments(&passed, context, count);                          \
		return changed_ids(context[count], call,                          \
				   (struct asked){ real, effective, saved, fs }); \
	}

/* long setuid(uid_t uid) */
CHANGES_IDS(setuid, SETUID_CALL_SETUID, 1, NOT_ASKED, passed.first, NOT_ASKED, NOT_ASKED)

/* long setgid(gid_t gid) */
CHANGES_IDS(setgid, SETUID_CALL_SETGID, 1, NOT_ASKED, passed.first, NOT_ASKED, NOT_ASKED)

/* long setreuid(uid_t ruid, uid_t euid) */
CHANGES_IDS(setreuid, SETUID_CALL_SETREUID, 2, passed.first, passed.second, NOT_ASKED, NOT_ASKED)

/* long setregid(gid_t rgid, gid_t egid) */
CHANGES_IDS(setregid, SETUID_CALL_SETREGID, 2, passed.first, passed.second, NOT_ASKED, NOT_ASKED)

/* long setresuid(uid_t ruid, uid_t euid, uid_t suid) */
CHANGES_IDS(setresuid, SETUID_CALL_SETRESUID, 3, passed.first, passed.second, passed.third,
	    NOT_ASKED)

/* long setresgid(gid_t rgid, gid_t egid, gid_t sgid) */
CHANGES_IDS(setresgid, SETUID_CALL_SETRESGID, 3, passed.first, passed.second, passed.third,
	    NOT_ASKED)

/* long setfsuid(uid_t uid) */
CHANGES_IDS(setfsuid, SETUID_CALL_SETFSUID, 1, NOT_ASKED, NOT_ASKED, NOT_ASKED, passed.first)

/* long setfsgid(gid_t gid) */
CHANGES_IDS(setfsgid, SETUID_CALL_SETFSGID, 1, NOT_ASKED, NOT_ASKED, NOT_ASKED, passed.first)

static __always_inline void fill_sets(struct capability_sets *to)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	const struct cred *cred = BPF_CORE_READ(task, cred);

	to->effective = CAPABILITIES(cred, cap_effective);
	to->permitted = CAPABILITIES(cred, cap_permitted);
	to->inheritable = CAPABILITIES(cred, cap_inheritable);
}

/* long capset(cap_user_header_t header, const cap_user_data_t data) */
BEFORE(capset, sys_capset)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct capability_sets sets;

	fill_sets(&sets);
	bpf_map_update_elem(&sets_before, &thread, &sets, BPF_ANY);
	return 0;
}

/* Takes what enter_capset() left. */
static __always_inline void take_sets(struct capability_sets *to)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct capability_sets *before = bpf_map_lookup_elem(&sets_before, &thread);

	if (!before) {
		__builtin_memset(to, 0xff, sizeof(*to));
		return;
	}
	*to = *before;
	bpf_map_delete_elem(&sets_before, &thread);
}

AFTER(capset, sys_capset)
{
	struct capset_event *event;
	struct capability_sets old;

	take_sets(&old);
	event = emit_reserve(EVENT_CAPSET, sizeof(*event));
	if (!event)
		return 0;
	event->event.result = result;
	event->old = old;
	fill_sets(&event->new);
	fill_facts_now(&event->facts);
	emit_submit(event, EVENT_CAPSET);
	return 0;
}

/* long unshare(unsigned long unshare_flags) */
AFTER(unshare, sys_unshare)
{
	struct unshare_event *event = emit_reserve(EVENT_UNSHARE, sizeof(*event));

	if (!event)
		return 0;
	event->event.result = result;
	event->flags = passed->first;
	fill_facts_now(&event->facts);
	emit_submit(event, EVENT_UNSHARE);
	return 0;
}

/* What the descriptor is: a namespace, or a process whose namespaces are entered. */
static __always_inline void fill_entered(struct setns_event *event, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct ns_common *namespace;
	struct pid *pid;

	if (BPF_CORE_READ(inode, i_sb, s_magic) == NSFS_MAGIC) {
		namespace = BPF_CORE_READ(inode, i_private);
		event->inode = BPF_CORE_READ(namespace, inum);
		append_string(event, &event->namespace_type, BPF_CORE_READ(namespace, ops, name),
			      NAMESPACE_BYTES, false);
		return;
	}
	pid = pid_of(file);
	if (pid)
		event->target_pid = first_number(pid);
}

/* long setns(int fd, int flags) */
AFTER(setns, sys_setns)
{
	struct setns_event *event = emit_reserve(EVENT_SETNS, sizeof(*event));
	struct file *file;

	if (!event)
		return 0;
	event->event.result = result;
	event->flags = (__u32)passed->second;
	file = file_of(passed->first);
	if (file)
		fill_entered(event, file);
	fill_facts_now(&event->facts);
	emit_submit(event, EVENT_SETNS);
	return 0;
}

#define KEYCTL_JOIN_SESSION_KEYRING 1
#define KEYCTL_SEARCH 10
#define KEYCTL_SET_REQKEY_KEYRING 14
#define KEYCTL_SESSION_TO_PARENT 18
#define KEYCTL_GET_PERSISTENT 22
#define KEYCTL_DH_COMPUTE 23
#define KEYCTL_PKEY_ENCRYPT 25
#define KEYCTL_PKEY_DECRYPT 26
#define KEYCTL_PKEY_SIGN 27
#define KEYCTL_PKEY_VERIFY 28
#define KEYCTL_CAPABILITIES 31

/* Operations whose second argument is something else than a key. */
#define WITHOUT_KEY                                                                              \
	(1ULL << KEYCTL_JOIN_SESSION_KEYRING | 1ULL << KEYCTL_SET_REQKEY_KEYRING |               \
	 1ULL << KEYCTL_SESSION_TO_PARENT | 1ULL << KEYCTL_GET_PERSISTENT |                      \
	 1ULL << KEYCTL_DH_COMPUTE | 1ULL << KEYCTL_PKEY_ENCRYPT | 1ULL << KEYCTL_PKEY_DECRYPT | \
	 1ULL << KEYCTL_PKEY_SIGN | 1ULL << KEYCTL_PKEY_VERIFY | 1ULL << KEYCTL_CAPABILITIES)

static __always_inline struct keyctl_event *reserve_keyctl(long result, enum key_call call)
{
	struct keyctl_event *event = emit_reserve(EVENT_KEYCTL, sizeof(*event));

	if (!event)
		return NULL;
	event->event.result = result;
	event->operation = -1;
	event->call = call;
	return event;
}

static __always_inline void append_key_names(struct keyctl_event *event, __u64 type,
					     __u64 description)
{
	if (type)
		append_string(event, &event->type, (void *)type, KEY_TYPE_BYTES, true);
	/* NULL: a session keyring without a name. */
	if (description)
		append_string(event, &event->description, (void *)description, PATH_BYTES, true);
}

/* long keyctl(int option, unsigned long arg2, unsigned long arg3, unsigned long arg4, unsigned long arg5) */
AFTER(keyctl, compat_sys_keyctl)
{
	struct keyctl_event *event = reserve_keyctl(result, KEY_CALL_KEYCTL);
	__u32 operation;

	if (!event)
		return 0;
	operation = passed->first;
	event->operation = operation;
	if (operation < 64 && !((WITHOUT_KEY >> operation) & 1))
		event->key = passed->second;
	if (operation == KEYCTL_SEARCH)
		append_key_names(event, passed->third, passed->fourth);
	else if (operation == KEYCTL_JOIN_SESSION_KEYRING)
		append_key_names(event, 0, passed->second);
	emit_submit(event, EVENT_KEYCTL);
	return 0;
}

/* long add_key(const char *_type, const char *_description, const void *_payload, size_t plen, key_serial_t ringid) */
AFTER(add_key, sys_add_key)
{
	struct keyctl_event *event = reserve_keyctl(result, KEY_CALL_ADD_KEY);

	if (!event)
		return 0;
	event->key = passed->fifth;
	append_key_names(event, passed->first, passed->second);
	emit_submit(event, EVENT_KEYCTL);
	return 0;
}

/* long request_key(const char *_type, const char *_description, const char *_callout_info, key_serial_t destringid) */
AFTER(request_key, sys_request_key)
{
	struct keyctl_event *event = reserve_keyctl(result, KEY_CALL_REQUEST_KEY);

	if (!event)
		return 0;
	event->key = passed->fourth;
	append_key_names(event, passed->first, passed->second);
	emit_submit(event, EVENT_KEYCTL);
	return 0;
}
