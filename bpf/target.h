/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Files that a call names in the caller's memory, or by a descriptor. */
#ifndef NODEAGENT_TARGET_H
#define NODEAGENT_TARGET_H

#include "path.h"

#define EBADF 9

#define AT_FDCWD -100
#define AT_EMPTY_PATH 0x1000

/* A name in the caller's memory, and the descriptor of the folder where it starts. */
struct named {
	__u64 folder;
	__u64 name;
};

/* The real path of the file behind a descriptor. */
static __always_inline void append_path_of_fd(void *record, struct path_text *path, int fd)
{
	struct file *file = file_of(fd);

	if (!file)
		/* Never open, or closed by another thread before we looked. */
		path->leaf_first.error = -EBADF;
	/* Pipes and sockets have no name. */
	else if (BPF_CORE_READ(file, f_path.dentry, d_name.len))
		append_file_path(record, path, file);
}

static __always_inline void append_folder(void *record, struct path_text *path, int fd)
{
	if (fd == AT_FDCWD)
		append_cwd(record, path, (struct task_struct *)bpf_get_current_task());
	else
		append_path_of_fd(record, path, fd);
}

/* Where absolute names start: not at the top for who has called chroot(2). */
static __always_inline void append_root(void *record, struct path_text *path)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	append_path(record, path, BPF_CORE_READ(task, fs, root.mnt),
		    BPF_CORE_READ(task, fs, root.dentry));
}

/* The name alone; false when it is a relative one. */
static __always_inline bool append_name(void *record, struct target *to, __u64 name)
{
	struct scratch *scratch = scratch_of(record);
	__u32 offset = scratch->used;

	append_string(record, &to->argument, (void *)name, PATH_BYTES, true);
	barrier_var(offset);
	offset &= RECORD_MAX - 1;
	return to->argument.length && scratch->record[offset] == '/';
}

static __always_inline void append_start(void *record, struct target *to, int folder, bool absolute)
{
	if (absolute)
		append_root(record, &to->base);
	else
		append_folder(record, &to->base, folder);
}

/*
 * What was passed, and where it starts; returns whether that is the root. At the exit of
 * the call the memory may have changed, so whoever uses this says `unverified`.
 */
static __always_inline bool append_passed_target(void *record, struct target *to,
						 struct named passed)
{
	bool absolute = append_name(record, to, passed.name);

	append_start(record, to, passed.folder, absolute);
	return absolute;
}

/* A second name, which mostly starts where the first one does. */
static __always_inline void append_next_target(void *record, struct target *to, struct named passed,
					       const struct target *first, int folder,
					       bool first_absolute)
{
	bool absolute = append_name(record, to, passed.name);

	if (first->base.leaf_first.length && absolute == first_absolute &&
	    (absolute || folder == (int)passed.folder))
		to->base = first->base;
	else
		append_start(record, to, passed.folder, absolute);
}

/* Newer kernels take NULL for an empty name, too. */
static __always_inline bool is_empty(__u64 name)
{
	char first = 0;

	return !name || (!bpf_probe_read_user(&first, sizeof(first), (void *)name) && !first);
}

/*
 * With AT_EMPTY_PATH, no name means the file behind the descriptor. That there was no name
 * is as unverified as a name.
 */
static __always_inline bool append_target_at(void *record, struct target *to, struct named passed,
					     __u32 flags)
{
	if (!(flags & AT_EMPTY_PATH) || !is_empty(passed.name))
		return append_passed_target(record, to, passed);
	append_folder(record, &to->path, passed.folder);
	return false;
}

#endif
