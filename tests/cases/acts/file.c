// SPDX-License-Identifier: Apache-2.0
/* Names, permissions and owners of files. */
#include "act.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif


/* A folder with a file in it; returns the descriptor of the folder. */
static int folder(void)
{
	must("mkdir", mkdir("dir", 0755));
	close(must("file", open("dir/file", O_CREAT | O_WRONLY, 0644)));
	return must("open", open("dir", O_PATH | O_DIRECTORY));
}

static int act_rename(char **a)
{
	folder();
	result(syscall(SYS_rename, a[0], a[1]));
	return 0;
}

static int act_renameat(char **a)
{
	int dir = folder();

	result(syscall(SYS_renameat, dir, a[0], dir, a[1]));
	return 0;
}

static int act_renameat2(char **a)
{
	int dir = folder();

	result(syscall(SYS_renameat2, dir, a[0], AT_FDCWD, a[1], RENAME_NOREPLACE));
	return 0;
}

static int act_link(char **a)
{
	folder();
	result(syscall(SYS_link, a[0], a[1]));
	return 0;
}

static int act_linkat(char **a)
{
	int dir = folder();

	result(syscall(SYS_linkat, dir, a[0], dir, a[1], AT_SYMLINK_FOLLOW));
	return 0;
}

static int act_symlink(char **a)
{
	folder();
	result(syscall(SYS_symlink, a[0], a[1]));
	return 0;
}

static int act_symlinkat(char **a)
{
	int dir = folder();

	result(syscall(SYS_symlinkat, a[0], dir, a[1]));
	return 0;
}

static int act_unlink(char **a)
{
	folder();
	result(syscall(SYS_unlink, a[0]));
	return 0;
}

static int act_unlinkat(char **a)
{
	int dir = folder();

	result(syscall(SYS_unlinkat, dir, a[0], 0));
	return 0;
}

static int act_rmdir(char **a)
{
	must("mkdir", mkdir("empty", 0755));
	result(syscall(SYS_rmdir, a[0]));
	return 0;
}

static int act_chmod(char **a)
{
	folder();
	result(syscall(SYS_chmod, a[0], 0600));
	return 0;
}

static int act_fchmod(char **a)
{
	int fd;

	folder();
	fd = must("open", open(a[0], O_RDONLY));
	result(syscall(SYS_fchmod, fd, 04755));
	return 0;
}

static int act_fchmod_closed(char **a)
{
	(void)a;
	result(syscall(SYS_fchmod, 99, 0600));
	return 0;
}

static int act_fchmodat(char **a)
{
	int dir = folder();

	result(syscall(SYS_fchmodat, dir, a[0], 0640));
	return 0;
}

static int act_fchmodat2(char **a)
{
	int dir = folder();

	result(syscall(SYS_fchmodat2, dir, a[0], 0604, AT_SYMLINK_NOFOLLOW));
	return 0;
}

static int act_chown(char **a)
{
	folder();
	result(syscall(SYS_chown, a[0], 1000, 1001));
	return 0;
}

static int act_lchown(char **a)
{
	folder();
	result(syscall(SYS_lchown, a[0], -1, 1001));
	return 0;
}

static int act_fchown(char **a)
{
	int fd;

	folder();
	fd = must("open", open(a[0], O_RDONLY));
	result(syscall(SYS_fchown, fd, 1000, -1));
	return 0;
}

static int act_fchownat(char **a)
{
	int dir = folder();

	result(syscall(SYS_fchownat, dir, a[0], 1002, 1003, AT_SYMLINK_NOFOLLOW));
	return 0;
}

static const struct act acts[] = {
	{ "rename", act_rename },
	{ "renameat", act_renameat },
	{ "renameat2", act_renameat2 },
	{ "link", act_link },
	{ "linkat", act_linkat },
	{ "symlink", act_symlink },
	{ "symlinkat", act_symlinkat },
	{ "unlink", act_unlink },
	{ "unlinkat", act_unlinkat },
	{ "rmdir", act_rmdir },
	{ "chmod", act_chmod },
	{ "fchmod", act_fchmod },
	{ "fchmod_closed", act_fchmod_closed },
	{ "fchmodat", act_fchmodat },
	{ "fchmodat2", act_fchmodat2 },
	{ "chown", act_chown },
	{ "lchown", act_lchown },
	{ "fchown", act_fchown },
	{ "fchownat", act_fchownat },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return act_main(argc, argv, acts);
}
