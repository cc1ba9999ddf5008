/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a record says about a task. */
#ifndef NODEAGENT_TASK_H
#define NODEAGENT_TASK_H

#include "maps.h"
#include "cgroup.h"
#include "compat.h"

#define PF_KTHREAD 0x00200000

static __always_inline void fill_credentials(struct credentials *to, const struct cred *cred)
{
	to->uid = BPF_CORE_READ(cred, uid.val);
	to->gid = BPF_CORE_READ(cred, gid.val);
	to->euid = BPF_CORE_READ(cred, euid.val);
	to->egid = BPF_CORE_READ(cred, egid.val);
}

#define FILL_TASK(READ, to, task)                                            \
	do {                                                                 \
		(to)->start_time = READ(task, group_leader, start_boottime); \
		(to)->pid = READ(task, tgid);                                \
		(to)->parent_pid = READ(task, real_parent, tgid);            \
		(to)->uid = READ(task, cred, uid.val);                       \
		(to)->gid = READ(task, cred, gid.val);                       \
		(to)->euid = READ(task, cred, euid.val);                     \
		(to)->egid = READ(task, cred, egid.val);                     \
		(to)->login_uid = -1;                                        \
		(to)->session_id = -1;                                       \
		if (bpf_core_field_exists((task)->loginuid)) {               \
			(to)->login_uid = READ(task, loginuid.val);          \
			(to)->session_id = READ(task, sessionid);            \
		}                                                            \
		(to)->exec_id = READ(task, self_exec_id);                    \
	} while (0)

/* @task is one that the verifier knows. The helper for the cgroup knows only the current one. */
static __always_inline void fill_task(struct task *to, struct task_struct *task)
{
	FILL_TASK(LOADED, to, task);
	to->cgroup = current_cgroup();
	BPF_CORE_READ_INTO(&to->comm, task, comm);
}

/* As the members lie in struct cred, unless its layout is randomised. */
struct cred_ids {
	__u32 uid;
	__u32 gid;
	__u32 suid;
	__u32 sgid;
	__u32 euid;
	__u32 egid;
};

#define FROM_UID(cred, field) \
	(bpf_core_field_offset((cred)->field) - bpf_core_field_offset((cred)->uid))

static __always_inline void fill_task_ids(struct task *to, const struct cred *cred)
{
	struct cred_ids ids = {};

	if (FROM_UID(cred, gid) == __builtin_offsetof(struct cred_ids, gid) &&
	    FROM_UID(cred, euid) == __builtin_offsetof(struct cred_ids, euid) &&
	    FROM_UID(cred, egid) == __builtin_offsetof(struct cred_ids, egid)) {
		bpf_core_read(&ids, sizeof(ids), &cred->uid);
	} else {
		ids.uid = BPF_CORE_READ(cred, uid.val);
		ids.gid = BPF_CORE_READ(cred, gid.val);
		ids.euid = BPF_CORE_READ(cred, euid.val);
		ids.egid = BPF_CORE_READ(cred, egid.val);
	}
	to->uid = ids.uid;
	to->gid = ids.gid;
	to->euid = ids.euid;
	to->egid = ids.egid;
}

/*
 * The verifier takes milliseconds for each pointer that is followed by a load, since it
 * looks for its type by name in all types of the kernel. So only programs that run often
 * follow pointers like that; in others a call for each of them does not matter.
 */
static __always_inline void fill_current_task_cheaply(struct task *to)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	to->start_time = BPF_CORE_READ(task, group_leader, start_boottime);
	to->pid = bpf_get_current_pid_tgid() >> 32;
	to->parent_pid = BPF_CORE_READ(task, real_parent, tgid);
	fill_task_ids(to, BPF_CORE_READ(task, cred));
	to->login_uid = -1;
	to->session_id = -1;
	if (bpf_core_field_exists(task->loginuid)) {
		to->login_uid = BPF_CORE_READ(task, loginuid.val);
		to->session_id = BPF_CORE_READ(task, sessionid);
	}
	to->exec_id = BPF_CORE_READ(task, self_exec_id);
	to->cgroup = current_cgroup();
	bpf_get_current_comm(to->comm, sizeof(to->comm));
}

static __always_inline void fill_current_task(struct task *to)
{
	if (HAS_TYPED_TASK) {
		struct task_struct *task = bpf_get_current_task_btf();

		FILL_TASK(LOADED, to, task);
	} else {
		struct task_struct *task = (struct task_struct *)bpf_get_current_task();

		FILL_TASK(BPF_CORE_READ, to, task);
	}
	to->cgroup = current_cgroup();
	bpf_get_current_comm(to->comm, sizeof(to->comm));
}

#define FILL_SENDER(READ, to, tid, task)                                      \
	do {                                                                  \
		FILL_TASK(READ, to, task);                                    \
		(to)->cgroup = constants.cgroup_controller ?                  \
				       controller_cgroup(task) :              \
				       READ(task, cgroups, dfl_cgrp, kn, id); \
		*(tid) = READ(task, pid);                                     \
		BPF_CORE_READ_INTO(&(to)->comm, task, comm);                  \
	} while (0)

/* The current task, for programs on packets: they have few helpers. */
static __always_inline void fill_sender(struct task *to, __u32 *tid)
{
	if (HAS_TYPED_TASK_FOR_ALL) {
		struct task_struct *task = bpf_get_current_task_btf();

		FILL_SENDER(LOADED, to, tid, task);
	} else {
		struct task_struct *task = (struct task_struct *)bpf_get_current_task();

		FILL_SENDER(BPF_CORE_READ, to, tid, task);
	}
}

static __always_inline void fill_namespaces(struct namespaces *to, struct task_struct *task,
					    struct pid_namespace *pid_ns)
{
	struct nsproxy *proxy = BPF_CORE_READ(task, nsproxy);

	/* An exiting task has none. */
	if (!proxy)
		return;
	to->cgroup = BPF_CORE_READ(proxy, cgroup_ns, ns.inum);
	to->ipc = BPF_CORE_READ(proxy, ipc_ns, ns.inum);
	to->mnt = BPF_CORE_READ(proxy, mnt_ns, ns.inum);
	to->net = BPF_CORE_READ(proxy, net_ns, ns.inum);
	to->pid = BPF_CORE_READ(pid_ns, ns.inum);
	to->time = BPF_CORE_READ(proxy, time_ns, ns.inum);
	to->user = BPF_CORE_READ(task, cred, user_ns, ns.inum);
	to->uts = BPF_CORE_READ(proxy, uts_ns, ns.inum);
}

static __always_inline void fill_facts(struct process_facts *to, struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);
	struct upid number = {};

	bpf_core_read(&number, sizeof(number), &pid->numbers[level]);
	to->parent_start_time = BPF_CORE_READ(task, real_parent, group_leader, start_boottime);
	to->capabilities = CAPABILITIES(BPF_CORE_READ(task, cred), cap_effective);
	to->namespace_pid = number.nr;
	to->kernel_thread = !!(BPF_CORE_READ(task, flags) & PF_KTHREAD);
	fill_namespaces(&to->namespaces, task, number.ns);
}

static __always_inline void fill_facts_now(struct process_facts *to)
{
	fill_facts(to, (struct task_struct *)bpf_get_current_task());
}

#endif
