// SPDX-License-Identifier: Apache-2.0
// Keeps a loop at a rate, without drift: an operation that is late is made up for.
#ifndef PACE_H
#define PACE_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

// Sleep at most once in this long, so that the wake-ups cost little at a high rate.
#define SHORTEST_SLEEP_NS 1000000LL

struct pace {
	double rate;
	long long start_ns;
	long long end_ns;
};

static inline long long pace_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static inline struct pace pace_start(double rate, double seconds)
{
	struct pace pace = { .rate = rate, .start_ns = pace_now() };

	pace.end_ns = seconds ? pace.start_ns + (long long)(seconds * 1e9) : 0;
	return pace;
}

// Waits until operation number `done` is due; false when the time is over. A flat-out
// loop looks at the clock once in `stride` operations.
static inline bool pace_next(const struct pace *pace, long long done, int stride)
{
	if (!pace->rate && done % stride)
		return true;
	long long now = pace_now();

	if (pace->end_ns && now >= pace->end_ns)
		return false;
	if (!pace->rate)
		return true;
	long long due = pace->start_ns + (long long)(done / pace->rate * 1e9);

	if (due <= now)
		return true;
	if (due < now + SHORTEST_SLEEP_NS)
		due = now + SHORTEST_SLEEP_NS;
	struct timespec until = { due / 1000000000LL, due % 1000000000LL };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
	return !pace->end_ns || pace_now() < pace->end_ns;
}

static inline double pace_cpu_seconds(int who)
{
	struct rusage usage;

	getrusage(who, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static inline void pace_report(const struct pace *pace, long long done)
{
	double seconds = (pace_now() - pace->start_ns) / 1e9;

	printf("%lld %.6f %.6f\n", done, seconds,
	       pace_cpu_seconds(RUSAGE_SELF) + pace_cpu_seconds(RUSAGE_CHILDREN));
}

#endif
