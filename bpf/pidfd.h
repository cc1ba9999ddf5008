/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The process that a descriptor stands for. */
#ifndef NODEAGENT_PIDFD_H
#define NODEAGENT_PIDFD_H

#include "anonymous.h"

#define PID_FS_MAGIC 0x50494446
#define PROC_SUPER_MAGIC 0x9fa0

/* What a pidfd stands for, or NULL when it is none. */
static __always_inline struct pid *pid_of(struct file *file)
{
	if (!file)
		return NULL;
	/* A file system of its own since commit cb12fd8e0dab (v6.9). */
	if (BPF_CORE_READ(file, f_inode, i_sb, s_magic) == PID_FS_MAGIC)
		return BPF_CORE_READ(file, f_inode, i_private);
	if (anonymous_name(file) == NAME_OF("[pidfd]"))
		return BPF_CORE_READ(file, private_data);
	return NULL;
}

/* The same where a folder like /proc/PID will do, too. */
static __always_inline struct pid *pid_of_folder(struct file *file)
{
	struct inode *inode;

	if (!file)
		return NULL;
	inode = BPF_CORE_READ(file, f_inode);
	if (BPF_CORE_READ(inode, i_sb, s_magic) == PROC_SUPER_MAGIC) {
		struct proc_inode *proc = container_of(inode, struct proc_inode, vfs_inode);

		return BPF_CORE_READ(proc, pid);
	}
	return pid_of(file);
}

/* The number in the initial pid namespace. */
static __always_inline __u32 first_number(struct pid *pid)
{
	return BPF_CORE_READ(pid, numbers[0].nr);
}

/* One that is gone has a number and no start time any more. */
static __always_inline void fill_other_of(struct other *to, struct pid *pid)
{
	struct hlist_node *node = BPF_CORE_READ(pid, tasks[PIDTYPE_PID].first);
	struct task_struct *task;

	to->pid = first_number(pid);
	if (!node)
		return;
	task = container_of(node, struct task_struct, pid_links[PIDTYPE_PID]);
	to->pid = BPF_CORE_READ(task, tgid);
	to->start_time = BPF_CORE_READ(task, group_leader, start_boottime);
}

#endif
