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

/* Both names are there. */
static int act_renameat2_exchange(char **a)
{
	int dir = folder();

	close(must("file", openat(dir, a[1], O_CREAT | O_WRONLY, 0644)));
	result(syscall(SYS_renameat2, dir, a[0], dir, a[1], RENAME_EXCHANGE));
	return 0;
}

/* By names that start at the root, which is another one. */
static int act_rename_in_root(char **a)
{
	folder();
	must("chroot", chroot("."));
	result(syscall(SYS_rename, a[0], a[1]));
	return 0;
}

/* A pointer that leads nowhere. */
static int act_rename_unmapped(char **a)
{
	result(syscall(SYS_rename, (char *)16, a[0]));
	return 0;
}

static int act_renameat_closed(char **a)
{
	result(syscall(SYS_renameat, 99, a[0], AT_FDCWD, a[1]));
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

/* By the descriptor of the file and no name. */
static int act_linkat_open(char **a)
{
	int dir = folder();

	result(syscall(SYS_linkat, must("open", open(a[0], O_RDONLY)), "", dir, a[1],
		       AT_EMPTY_PATH));
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

static int act_unlinkat_folder(char **a)
{
	must("mkdir", mkdir("empty", 0755));
	result(syscall(SYS_unlinkat, AT_FDCWD, a[0], AT_REMOVEDIR));
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

/* With the type of the file, as stat(2) says it. */
static int act_chmod_typed(char **a)
{
	folder();
	result(syscall(SYS_chmod, a[0], S_IFREG | 0644));
	return 0;
}

static int act_fchmod_pipe(char **a)
{
	int ends[2];

	(void)a;
	must("pipe", pipe(ends));
	result(syscall(SYS_fchmod, ends[0], 0600));
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

static int act_fchmodat2_open(char **a)
{
	folder();
	result(syscall(SYS_fchmodat2, must("open", open(a[0], O_RDONLY)), "", 0604,
		       AT_EMPTY_PATH));
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

static int act_fchown_closed(char **a)
{
	(void)a;
	result(syscall(SYS_fchown, 99, 1000, 1001));
	return 0;
}

/* By the descriptor of the folder itself. */
static int act_fchownat_open(char **a)
{
	(void)a;
	result(syscall(SYS_fchownat, folder(), "", 1002, 1003, AT_EMPTY_PATH));
	return 0;
}

/* The working directory itself. */
static int act_fchownat_here(char **a)
{
	(void)a;
	result(syscall(SYS_fchownat, AT_FDCWD, "", -1, -1, AT_EMPTY_PATH));
	return 0;
}

static const struct act acts[] = {
	{ "rename", act_rename },
	{ "renameat", act_renameat },
	{ "renameat2", act_renameat2 },
	{ "renameat2_exchange", act_renameat2_exchange },
	{ "rename_in_root", act_rename_in_root },
	{ "rename_unmapped", act_rename_unmapped },
	{ "renameat_closed", act_renameat_closed },
	{ "link", act_link },
	{ "linkat", act_linkat },
	{ "linkat_open", act_linkat_open },
	{ "symlink", act_symlink },
	{ "symlinkat", act_symlinkat },
	{ "unlink", act_unlink },
	{ "unlinkat", act_unlinkat },
	{ "unlinkat_folder", act_unlinkat_folder },
	{ "rmdir", act_rmdir },
	{ "chmod", act_chmod },
	{ "chmod_typed", act_chmod_typed },
	{ "fchmod", act_fchmod },
	{ "fchmod_closed", act_fchmod_closed },
	{ "fchmod_pipe", act_fchmod_pipe },
	{ "fchmodat", act_fchmodat },
	{ "fchmodat2", act_fchmodat2 },
	{ "fchmodat2_open", act_fchmodat2_open },
	{ "chown", act_chown },
	{ "lchown", act_lchown },
	{ "fchown", act_fchown },
	{ "fchown_closed", act_fchown_closed },
	{ "fchownat", act_fchownat },
	{ "fchownat_open", act_fchownat_open },
	{ "fchownat_here", act_fchownat_here },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return act_main(argc, argv, acts);
}
