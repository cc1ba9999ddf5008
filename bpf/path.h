/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Real paths and inodes, read from kernel objects. */
#ifndef NODEAGENT_PATH_H
#define NODEAGENT_PATH_H

#include "emit.h"
#include "peek.h"

#define S_IFMT 00170000
#define S_IFREG 0100000
#define S_IFSOCK 0140000
#define S_IFIFO 0010000
#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6

/* Names and mount crossings of one path; a deeper one is cut at the top. */
#define PATH_STEPS 96

/* As the members lie in struct mount, unless its layout is randomised. */
struct mount_step {
	struct mount *parent;
	struct dentry *point;
	struct dentry *root;
};

static __always_inline void step_to_mount(struct scratch *scratch, struct mount *mount)
{
	struct mount_step step;

	if (bpf_core_field_offset(mount->mnt.mnt_root) - bpf_core_field_offset(mount->mnt_parent) ==
		    __builtin_offsetof(struct mount_step, root) &&
	    bpf_core_field_offset(mount->mnt_mountpoint) -
			    bpf_core_field_offset(mount->mnt_parent) ==
		    __builtin_offsetof(struct mount_step, point)) {
		bpf_core_read(&step, sizeof(step), &mount->mnt_parent);
	} else {
		step.parent = BPF_CORE_READ(mount, mnt_parent);
		step.point = BPF_CORE_READ(mount, mnt_mountpoint);
		step.root = BPF_CORE_READ(mount, mnt.mnt_root);
	}
	scratch->mount = (__u64)mount;
	scratch->mount_parent = (__u64)step.parent;
	scratch->mount_point = (__u64)step.point;
	scratch->mount_root = (__u64)step.root;
}

/* Names shorter than this are part of the dentry itself (DNAME_INLINE_LEN is 32 or more). */
#define INLINE_NAME 32

/* As the members lie in struct dentry, unless its layout is randomised. */
struct name_step {
	struct dentry *parent;
	__u32 hash;
	__u32 length;
	const unsigned char *name;
	struct inode *inode;
	__u64 inline_name[INLINE_NAME / 8];
};

struct dentry___before_v6_15 {
	unsigned char d_iname[INLINE_NAME];
};

union shortname_store___since_v6_15 {
	unsigned char string[INLINE_NAME];
};

struct dentry___since_v6_15 {
	union shortname_store___since_v6_15 d_shortname;
};

/* d_iname became d_shortname with commit 58cf9c383c5c (v6.15). */
static __always_inline __u32 inline_name_offset(void)
{
	if (bpf_core_field_exists(struct dentry___since_v6_15, d_shortname))
		return bpf_core_field_offset(struct dentry___since_v6_15, d_shortname);
	return bpf_core_field_offset(struct dentry___before_v6_15, d_iname);
}

/* Whether the bytes of struct name_step can be read at once. */
#define NAME_AT_ONCE(dentry)                                                 \
	(bpf_core_field_offset((dentry)->d_name.name) -                      \
			 bpf_core_field_offset((dentry)->d_parent) ==        \
		 __builtin_offsetof(struct name_step, name) &&               \
	 bpf_core_field_offset((dentry)->d_name.len) -                       \
			 bpf_core_field_offset((dentry)->d_parent) ==        \
		 __builtin_offsetof(struct name_step, length) &&             \
	 inline_name_offset() - bpf_core_field_offset((dentry)->d_parent) == \
		 __builtin_offsetof(struct name_step, inline_name))

static __always_inline void read_name(struct name_step *to, struct dentry *dentry)
{
	if (NAME_AT_ONCE(dentry)) {
		bpf_core_read(to, sizeof(*to), &dentry->d_parent);
		return;
	}
	to->parent = BPF_CORE_READ(dentry, d_parent);
	to->length = BPF_CORE_READ(dentry, d_name.len);
	to->name = BPF_CORE_READ(dentry, d_name.name);
}

/* Copies @length bytes; a short name is there already, and eight bytes at a time are fast. */
static __always_inline long copy_name(char *to, struct name_step *step, struct dentry *dentry,
				      __u32 length)
{
	if (!NAME_AT_ONCE(dentry) || length >= INLINE_NAME ||
	    (__u64)step->name != (__u64)dentry + inline_name_offset())
		/* The length is known, and copying words is faster than looking for a NUL. */
		return bpf_probe_read_kernel(to, length, step->name);
	for (int word = 0; word < INLINE_NAME / 8; word++)
		((__u64 *)to)[word] = step->inline_name[word];
	return 0;
}

/* One name further up, or through a mount point; false at the root of the namespace. */
static __always_inline bool step_up(struct scratch *scratch, struct text *text)
{
	struct dentry *dentry = (struct dentry *)scratch->dentry;
	/* Not on the stack: 512 bytes are for a program and all functions that it is in. */
	struct name_step *step = (struct name_step *)&scratch->peek;
	__u32 length;
	__u32 offset;
	char *to;
	long error;

	if ((__u64)dentry == scratch->mount_root) {
		if (scratch->mount_parent == scratch->mount)
			return false;
		scratch->dentry = scratch->mount_point;
		step_to_mount(scratch, (struct mount *)scratch->mount_parent);
		return true;
	}
	to = append_at(scratch, &offset);
	if (!to || offset > RECORD_MAX - NAME_BYTES) {
		text->truncated = 1;
		return false;
	}
	read_name(step, dentry);
	length = step->length;
	barrier_var(length);
	length &= NAME_BYTES - 1;
	error = copy_name(to, step, dentry, length);
	if (error) {
		text->error = error;
		return false;
	}
	to[length] = 0;
	scratch->used = offset + length + 1;
	scratch->names[scratch->depth++ & (PATH_NAMES - 1)] = offset;
	/* A file without a directory: memfd, pipe, socket. */
	if (step->parent == dentry)
		return false;
	scratch->dentry = (__u64)step->parent;
	return true;
}

/* Some steps, see TURNS_AT_ONCE; 1 at the end of the path. */
__weak int walk_some(__u32 index)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &index);

	if (!scratch)
		return 1;
	for (int step = 0; step < TURNS_AT_ONCE; step++)
		if (!step_up(scratch, &scratch->walked))
			return 1;
	return 0;
}

static __always_inline void walk_up(struct scratch *scratch, __u32 index)
{
	for (int step = 0; step < PATH_STEPS; step += TURNS_AT_ONCE)
		if (walk_some(index))
			return;
	scratch->walked.truncated = 1;
}

/*
 * From the dentry and the struct vfsmount that are noted in the scratch. A function of its own, so
 * that the verifier looks at it once for each program.
 */
__weak int walk_path(__u32 index)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &index);
	struct text *text;

	if (!scratch)
		return 0;
	text = &scratch->walked;
	__builtin_memset(text, 0, sizeof(*text));
	text->offset = scratch->used;
	scratch->depth = 0;
	step_to_mount(scratch, container_of((struct vfsmount *)scratch->mount, struct mount, mnt));
	walk_up(scratch, index);
	/* Without the NUL at its end a path has no root. */
	if (text->truncated && scratch->used > text->offset)
		scratch->used--;
	if (scratch->used == text->offset) {
		/* The root itself: nothing but the NUL. */
		__u32 offset;
		char *to = append_at(scratch, &offset);

		if (to)
			*to = 0;
		scratch->used++;
	}
	text_end(scratch, text);
	return 0;
}

static __always_inline void append_path(void *record, struct path_text *path,
					struct vfsmount *mount, struct dentry *dentry)
{
	struct scratch *scratch = scratch_of(record);

	scratch->mount = (__u64)mount;
	scratch->dentry = (__u64)dentry;
	walk_path(scratch->index);
	path->leaf_first = scratch->walked;
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

static __always_inline void fill_file_id(struct scratch *scratch, struct file_id *to,
					 struct inode *inode)
{
	struct super_block *super;

	peek(&scratch->peek, inode);
	to->inode = PEEKED(&scratch->peek, inode, i_ino);
	to->mode = PEEKED(&scratch->peek, inode, i_mode);
	super = PEEKED(&scratch->peek, inode, i_sb);
	to->device = BPF_CORE_READ(super, s_dev);
}

struct inode___since_v6_11 {
	__s64 i_ctime_sec;
};

/* The other half, apart because it would be padded. */
struct inode___since_v6_11_too {
	__u32 i_ctime_nsec;
};

struct inode___since_v6_6 {
	struct timespec64 __i_ctime;
};

struct inode___before_v6_6 {
	struct timespec64 i_ctime;
};

/* Since commit 4e40eff0b573 (v6.13) the highest bit says that somebody has looked. */
#define I_CTIME_QUERIED (1U << 31)
#define SECOND_NS 1000000000LL

/*
 * i_ctime became __i_ctime with commit 13bc24457850 (v6.6), and two fields with commit
 * 3aa63a569c64 (v6.11). The inode must have been peeked at.
 */
static __always_inline __s64 changed_ns(struct scratch *scratch, struct inode *inode)
{
	struct inode___since_v6_11 *newest = (void *)inode;
	struct inode___since_v6_11_too *rest = (void *)inode;
	struct inode___since_v6_6 *newer = (void *)inode;
	struct inode___before_v6_6 *older = (void *)inode;

	if (bpf_core_field_exists(newest->i_ctime_sec))
		return PEEKED(&scratch->peek, newest, i_ctime_sec) * SECOND_NS +
		       (PEEKED(&scratch->peek, rest, i_ctime_nsec) & ~I_CTIME_QUERIED);
	if (bpf_core_field_exists(newer->__i_ctime))
		return PEEKED(&scratch->peek, newer, __i_ctime.tv_sec) * SECOND_NS +
		       PEEKED(&scratch->peek, newer, __i_ctime.tv_nsec);
	return PEEKED(&scratch->peek, older, i_ctime.tv_sec) * SECOND_NS +
	       PEEKED(&scratch->peek, older, i_ctime.tv_nsec);
}

static __always_inline void fill_file(struct scratch *scratch, struct file_id *to,
				      struct file_version *version, struct inode *inode)
{
	fill_file_id(scratch, to, inode);
	version->changed_ns = changed_ns(scratch, inode);
	version->bytes = PEEKED(&scratch->peek, inode, i_size);
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

struct descriptors {
	__u64 count;
	struct file **slots;
};

static __always_inline struct file *slot_of(const struct descriptors *table, int fd)
{
	struct file *file = NULL;

	if (fd >= 0 && (__u32)fd < (__u32)table->count)
		bpf_probe_read_kernel(&file, sizeof(file), table->slots + fd);
	return file;
}

/* The open file behind a descriptor of the current task, or NULL. */
static __always_inline struct file *file_of(int fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fdtable *fdt = BPF_CORE_READ(task, files, fdt);
	struct descriptors table = { .count = BPF_CORE_READ(fdt, max_fds),
				     .slots = BPF_CORE_READ(fdt, fd) };

	return slot_of(&table, fd);
}

/* The same for programs that run often, see fill_current_task_cheaply(). */
static __always_inline struct file *file_of_quickly(int fd)
{
	if (HAS_TYPED_TASK) {
		struct task_struct *task = bpf_get_current_task_btf();
		struct descriptors table = { .count = LOADED(task, files, fdt, max_fds),
					     .slots = LOADED(task, files, fdt, fd) };

		return slot_of(&table, fd);
	}
	return file_of(fd);
}

#endif
