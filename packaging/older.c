/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the C library of Debian 11 does not have under any version. The kernel's structures are
 * those of the C library on all architectures that the agent is built for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int fstatat(int folder, const char *path, struct stat *found, int flags)
{
	return syscall(SYS_newfstatat, folder, path, found, flags);
}

int stat(const char *path, struct stat *found)
{
	return fstatat(AT_FDCWD, path, found, 0);
}

int lstat(const char *path, struct stat *found)
{
	return fstatat(AT_FDCWD, path, found, AT_SYMLINK_NOFOLLOW);
}

int fstat(int fd, struct stat *found)
{
	return syscall(SYS_fstat, fd, found);
}

int fstatat64(int, const char *, struct stat64 *, int) __attribute__((alias("fstatat")));
int stat64(const char *, struct stat64 *) __attribute__((alias("stat")));
int lstat64(const char *, struct stat64 *) __attribute__((alias("lstat")));
int fstat64(int, struct stat64 *) __attribute__((alias("fstat")));

int mknodat(int folder, const char *path, mode_t mode, dev_t device)
{
	/* The kernel takes 32 bits. */
	if (device != (unsigned int)device) {
		errno = EINVAL;
		return -1;
	}
	return syscall(SYS_mknodat, folder, path, mode, (unsigned int)device);
}

int mknod(const char *path, mode_t mode, dev_t device)
{
	return mknodat(AT_FDCWD, path, mode, device);
}

int close_range(unsigned int first, unsigned int last, int flags)
{
	return syscall(SYS_close_range, first, last, flags);
}

void arc4random_buf(void *buffer, size_t bytes)
{
	/* Who asks has no way to go on without, and getentropy(3) gives no more at once. */
	for (size_t part; bytes; buffer += part, bytes -= part) {
		part = bytes < 256 ? bytes : 256;
		if (getentropy(buffer, part))
			abort();
	}
}
