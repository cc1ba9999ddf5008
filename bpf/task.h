/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a record says about a task. */
#ifndef NODEAGENT_TASK_H
#define NODEAGENT_TASK_H

#include "maps.h"
#include "compat.h"

#define PF_KTHREAD 0x00200000

static __always_inline void fill_credentials(struct credentials *to, const struct cred *cred)
{
	to->uid = BPF_CORE_READ(cred, uid.val);
	to->gid = BPF_CORE_READ(cred, gid.val);
	to->euid = BPF_CORE_READ(cred, euid.val);
	to->egid = BPF_CORE_READ(cred, egid.val);
}

/* @cgroup is filled for the current task only: the helper knows no other. */
static __always_inline void fill_task(struct task *to, struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	const struct cred *cred = BPF_CORE_READ(task, cred);

	to->start_time = BPF_CORE_READ(leader, start_boottime);
	to->cgroup = bpf_get_current_cgroup_id();
	to->pid = BPF_CORE_READ(task, tgid);
	to->parent_pid = BPF_CORE_READ(task, real_parent, tgid);
	to->uid = BPF_CORE_READ(cred, uid.val);
	to->gid = BPF_CORE_READ(cred, gid.val);
	to->euid = BPF_CORE_READ(cred, euid.val);
	to->egid = BPF_CORE_READ(cred, egid.val);
	to->login_uid = -1;
	to->session_id = -1;
	if (bpf_core_field_exists(task->loginuid)) {
		to->login_uid = BPF_CORE_READ(task, loginuid.val);
		to->session_id = BPF_CORE_READ(task, sessionid);
	}
	to->exec_id = BPF_CORE_READ(task, self_exec_id);
	BPF_CORE_READ_INTO(&to->comm, task, comm);
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
	to->capabilities = effective_capabilities(BPF_CORE_READ(task, cred));
	to->namespace_pid = number.nr;
	to->kernel_thread = !!(BPF_CORE_READ(task, flags) & PF_KTHREAD);
	fill_namespaces(&to->namespaces, task, number.ns);
}

#endif
