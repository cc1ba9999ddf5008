/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Open files without a name in any file system, and what the kernel keeps behind them. */
#ifndef NODEAGENT_ANONYMOUS_H
#define NODEAGENT_ANONYMOUS_H

#include "maps.h"
#include "compat.h"

#define ANON_INODE_FS_MAGIC 0x09041934

/* The first eight bytes of a name, as a number. */
#define NAME_OF(text)                              \
	({                                         \
		__u64 _name;                       \
                                                   \
		__builtin_memcpy(&_name, text, 8); \
		_name;                             \
	})

/*
 * What an anonymous file is called, see NAME_OF(); 0 for all others. The kernel chooses the
 * name where it makes the file, so it tells what private_data is.
 */
static __always_inline __u64 anonymous_name(struct file *file)
{
	__u64 name = 0;

	if (file && BPF_CORE_READ(file, f_inode, i_sb, s_magic) == ANON_INODE_FS_MAGIC)
		bpf_probe_read_kernel(&name, sizeof(name),
				      BPF_CORE_READ(file, f_path.dentry, d_name.name));
	return name;
}

#endif
