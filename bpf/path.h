/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Real paths and inodes, read from kernel objects. */
#ifndef NODEAGENT_PATH_H
#define NODEAGENT_PATH_H

#include "emit.h"

#define S_IFMT 00170000
#define S_IFREG 0100000
#define S_IFSOCK 0140000
#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6

/* Names and mount crossings of one path; a deeper one is cut at the top. */
#define PATH_STEPS 96

static __always_inline void step_to_mount(struct scratch *scratch, struct mount *mount)
{
	scratch->mount = (__u64)mount;
	scratch->mount_root = (__u64)BPF_CORE_READ(mount, mnt.mnt_root);
}

/* One name further up, or through a mount point; false at the root of the namespace. */
static __always_inline bool step_up(struct scratch *scratch, struct text *text)
{
	struct dentry *dentry = (struct dentry *)scratch->dentry;
	struct mount *mount = (struct mount *)scratch->mount;
	struct dentry *parent;
	__u32 offset;
	char *to;
	long length;

	if ((__u64)dentry == scratch->mount_root) {
		struct mount *above = BPF_CORE_READ(mount, mnt_parent);

		if (above == mount)
			return false;
		scratch->dentry = (__u64)BPF_CORE_READ(mount, mnt_mountpoint);
		step_to_mount(scratch, above);
		return true;
	}
	to = append_at(scratch, &offset);
	if (!to || offset > RECORD_MAX - NAME_BYTES) {
		text->truncated = 1;
		return false;
	}
	length = bpf_probe_read_kernel_str(to, NAME_BYTES, BPF_CORE_READ(dentry, d_name.name));
	if (length <= 0) {
		text->error = length ?: -EFAULT;
		return false;
	}
	scratch->used = offset + length;
	parent = BPF_CORE_READ(dentry, d_parent);
	/* A file without a directory: memfd, pipe, socket. */
	if (parent == dentry)
		return false;
	scratch->dentry = (__u64)parent;
	return true;
}

static __always_inline void append_path(void *record, struct path_text *path,
					struct vfsmount *mount, struct dentry *dentry)
{
	struct scratch *scratch = scratch_of(record);
	struct text *text = &path->leaf_first;
	int step;

	text->offset = scratch->used;
	scratch->dentry = (__u64)dentry;
	step_to_mount(scratch, container_of(mount, struct mount, mnt));
	for (step = 0; step < PATH_STEPS; step++)
		if (!step_up(scratch, text))
			break;
	if (step == PATH_STEPS)
		text->truncated = 1;
	if (scratch->used == text->offset) {
		/* The root itself: nothing but the NUL. */
		__u32 offset;
		char *to = append_at(scratch, &offset);

		if (to)
			*to = 0;
		scratch->used++;
	}
	text_end(scratch, text);
}

static __always_inline void append_file_path(void *record, struct path_text *path,
					     struct file *file)
{
	append_path(record, path, BPF_CORE_READ(file, f_path.mnt),
		    BPF_CORE_READ(file, f_path.dentry));
}

/* Kernel threads and zombies have none. */
static __always_inline void append_executable(void *record, struct path_text *path,
					      struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	struct file *file = NULL;

	if (mm)
		file = BPF_CORE_READ(mm, exe_file);
	if (file)
		append_file_path(record, path, file);
}

static __always_inline void append_cwd(void *record, struct path_text *path,
				       struct task_struct *task)
{
	append_path(record, path, BPF_CORE_READ(task, fs, pwd.mnt),
		    BPF_CORE_READ(task, fs, pwd.dentry));
}

static __always_inline void fill_file_id(struct file_id *to, struct inode *inode)
{
	to->inode = BPF_CORE_READ(inode, i_ino);
	to->device = BPF_CORE_READ(inode, i_sb, s_dev);
	to->mode = BPF_CORE_READ(inode, i_mode);
}

static __always_inline bool is_memfd(struct file *file, struct inode *inode)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	__u64 magic = BPF_CORE_READ(inode, i_sb, s_magic);

	return (magic == TMPFS_MAGIC || magic == HUGETLBFS_MAGIC) &&
	       BPF_CORE_READ(dentry, d_parent) == dentry &&
	       BPF_CORE_READ(inode, i_sb, s_root) != dentry;
}

static __always_inline void fill_owner(struct file_owner *to, struct file *file,
				       struct inode *inode)
{
	to->uid = BPF_CORE_READ(inode, i_uid.val);
	to->gid = BPF_CORE_READ(inode, i_gid.val);
	to->links = BPF_CORE_READ(inode, i_nlink);
	to->memfd = is_memfd(file, inode);
}

/* The open file behind descriptor @fd of @task, or NULL. */
static __always_inline struct file *file_of(struct task_struct *task, int fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **slots = BPF_CORE_READ(table, fd);
	struct file *file = NULL;

	if (fd < 0 || (__u32)fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
	return file;
}

#endif
