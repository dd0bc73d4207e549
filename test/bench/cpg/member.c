/*
 * One member of a closed process group of corosync, as the benchmark's Go
 * member is one of convoke's: what it is told and what it says is in
 * ../member.go.
 *
 *	member TAG GROUP
 *
 * Two threads: main takes commands and sends, the other receives.
 */
#include <corosync/cpg.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOAD = 1, PING = 2, LARGEST = 1 << 20, STARTS = 1200 };

/* The beginning of a message; the rest of it is zeros. */
struct head {
	uint32_t kind, run, tag, zero;
	uint64_t seq;
};

static uint32_t tag;
static cpg_handle_t handle;
static char buf[LARGEST];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t run;		/* guarded by lock, as the rest: what is counted */
static uint64_t count, bytes, hash, want;
static int64_t last;		/* when the latest one came */

static int64_t *trips;		/* the receiver's, while it pings */
static uint64_t ntrips, done;
static long pause_us;
static int64_t pinged;

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void nap(long us)
{
	struct timespec t = {us / 1000000, us % 1000000 * 1000};

	nanosleep(&t, NULL);
}

static void say(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

static void die(const char *what, int result)
{
	say("error %s: result %d", what, result);
	exit(1);
}

static void sendone(uint32_t kind, uint32_t number, uint64_t seq, size_t size)
{
	struct head h = {.kind = kind, .run = number, .tag = tag, .seq = seq};
	struct iovec iov = {buf, size};
	cs_error_t r;

	memcpy(buf, &h, sizeof h);
	while ((r = cpg_mcast_joined(handle, CPG_TYPE_AGREED, &iov, 1)) == CS_ERR_TRY_AGAIN)
		nap(20);
	if (r != CS_OK)
		die("cpg_mcast_joined", r);
}

static int byvalue(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void ping(void)
{
	pinged = now();
	sendone(PING, 0, done, 64);
}

static void pong(void)
{
	trips[done++] = now() - pinged;
	if (done < ntrips) {
		if (pause_us > 0)
			nap(pause_us);
		ping();
		return;
	}
	qsort(trips, ntrips, sizeof *trips, byvalue);
	say("trips %" PRIu64 " %" PRId64 " %" PRId64, ntrips, trips[ntrips / 2], trips[ntrips * 99 / 100]);
}

/* Called with lock held. */
static void answer(void)
{
	if (want == 0 || count < want)
		return;
	want = 0;
	say("got %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRIu64, count, bytes, last, hash);
}

static void deliver(cpg_handle_t h, const struct cpg_name *group, uint32_t node, uint32_t pid, void *msg, size_t size)
{
	struct head m;

	(void)h, (void)group, (void)node, (void)pid;
	if (size < sizeof m)
		return;
	memcpy(&m, msg, sizeof m);
	if (m.kind == PING && m.tag == tag)
		pong();
	if (m.kind != LOAD)
		return;
	pthread_mutex_lock(&lock);
	if (m.run == run) {
		count++;
		bytes += size;
		hash = (hash ^ ((uint64_t)m.tag << 48 ^ m.seq)) * UINT64_C(0x9E3779B97F4A7C15);
		last = now();
		answer();
	}
	pthread_mutex_unlock(&lock);
}

static void change(cpg_handle_t h, const struct cpg_name *group, const struct cpg_address *members, size_t nmembers,
	const struct cpg_address *left, size_t nleft, const struct cpg_address *joined, size_t njoined)
{
	int64_t at = now();

	(void)h, (void)group, (void)members, (void)left, (void)joined;
	pthread_mutex_lock(&lock);
	say("conf %" PRId64 " %zu %zu %zu", at, nmembers, njoined, nleft);
	pthread_mutex_unlock(&lock);
}

static void *receive(void *unused)
{
	cs_error_t r = cpg_dispatch(handle, CS_DISPATCH_BLOCKING);

	die("cpg_dispatch", r);
	return unused;
}

static void load(uint32_t number, size_t size, long ms)
{
	int64_t first = now(), end = first + ms * INT64_C(1000000);
	uint64_t n = 0;

	while (now() < end)
		sendone(LOAD, number, ++n, size);
	pthread_mutex_lock(&lock);
	say("sent %" PRIu64 " %" PRId64, n, first);
	pthread_mutex_unlock(&lock);
}

static void command(const char *line)
{
	uint64_t a, b;
	unsigned number;
	long us;

	if (sscanf(line, "begin %u", &number) == 1) {
		pthread_mutex_lock(&lock);
		run = number;
		count = bytes = hash = want = 0;
		say("ok");
		pthread_mutex_unlock(&lock);
	} else if (sscanf(line, "load %u %" SCNu64 " %ld", &number, &a, &us) == 3 && a >= sizeof(struct head) && a <= LARGEST) {
		load(number, a, us);
	} else if (sscanf(line, "await %" SCNu64, &a) == 1 && a > 0) {
		pthread_mutex_lock(&lock);
		want = a;
		answer();
		pthread_mutex_unlock(&lock);
	} else if (sscanf(line, "trips %" SCNu64 " %" SCNu64, &a, &b) == 2 && a > 0) {
		free(trips);
		trips = calloc(a, sizeof *trips);
		if (trips == NULL)
			die("calloc", errno);
		ntrips = a;
		pause_us = (long)b;
		done = 0;
		ping();
	} else {
		say("error unknown command");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	cpg_callbacks_t callbacks = {deliver, change};
	struct cpg_name group;
	char line[256];
	pthread_t thread;
	cs_error_t r;
	int i;

	if (argc != 3)
		return 2;
	tag = (uint32_t)strtoul(argv[1], NULL, 10);
	group.length = (uint32_t)strlen(argv[2]);
	if (group.length >= sizeof group.value)
		return 2;
	memcpy(group.value, argv[2], group.length);
	/* A daemon that has just begun takes nobody. */
	for (i = 0; (r = cpg_initialize(&handle, &callbacks)) != CS_OK; i++) {
		if (i == STARTS)
			die("cpg_initialize", r);
		nap(50000);
	}
	for (i = 0; (r = cpg_join(handle, &group)) != CS_OK; i++) {
		if (i == STARTS || r != CS_ERR_TRY_AGAIN)
			die("cpg_join", r);
		nap(50000);
	}
	if (pthread_create(&thread, NULL, receive, NULL) != 0)
		die("pthread_create", errno);
	while (fgets(line, sizeof line, stdin) != NULL)
		command(line);
	cpg_finalize(handle);
	return 0;
}
