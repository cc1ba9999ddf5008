// SPDX-License-Identifier: Apache-2.0
// A system call that no agent looks at, flat out for so many seconds; says what the fastest of
// many turns took, since others take the CPU away at times: "operations seconds cpu".
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 1000

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 1;
	double end = now() + seconds;
	double fastest = seconds;
	struct rusage usage;

	while (now() < end) {
		double start = now();
		double taken;

		for (int call = 0; call < AT_ONCE; call++)
			syscall(SYS_getppid);
		taken = now() - start;
		if (taken < fastest)
			fastest = taken;
	}
	getrusage(RUSAGE_SELF, &usage);
	printf("%d %.9f %f\n", AT_ONCE, fastest,
	       usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
		       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	return 0;
}
