/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every act program needs: it does one thing to the kernel and says what came of
 * it, one "name value" a line.
 *
 *   PROGRAM NAME [ARGUMENT...]
 */
#ifndef ACT_H
#define ACT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Calls that arm64 does not have: a number that no kernel has, so the result is ENOSYS. */
#ifndef SYS_open
#define SYS_open -1
#define SYS_creat -1
#define SYS_dup2 -1
#define SYS_fork -1
#define SYS_rename -1
#define SYS_link -1
#define SYS_symlink -1
#define SYS_unlink -1
#define SYS_rmdir -1
#define SYS_chmod -1
#define SYS_chown -1
#define SYS_lchown -1
#endif

static inline long said(const char *name, long value)
{
	printf("%s %ld\n", name, value);
	fflush(stdout);
	return value;
}

static inline void said_text(const char *name, const char *value)
{
	printf("%s %s\n", name, value);
	fflush(stdout);
}

/* A raw system call returns -1 and errno; the event holds the negative errno. */
static inline long result(long value)
{
	return said("result", value < 0 ? -errno : value);
}

/* For what must work before the act; says what did not. */
static inline long must(const char *what, long value)
{
	if (value < 0) {
		perror(what);
		exit(3);
	}
	return value;
}

struct act {
	const char *name;
	int (*act)(char **arguments);
};

static inline int act_main(int argc, char **argv, const struct act *acts)
{
	char cwd[PATH_MAX];

	if (argc < 2)
		return 2;
	said("pid", getpid());
	if (getcwd(cwd, sizeof(cwd)))
		said_text("cwd", cwd);
	for (; acts->name; acts++)
		if (!strcmp(acts->name, argv[1]))
			return acts->act(argv + 2);
	fprintf(stderr, "there is no act %s\n", argv[1]);
	return 2;
}

#endif
