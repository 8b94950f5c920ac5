/* Probes of a machine that is a directory and a word: what a guest says may be anything. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "hv_int.h"

#define S UINT64_C(1000000000)

static enum sa_hv_state state_now;
static int state_rc;
static void (*on_look)(void); /* once, when the state is asked for */

static struct sa_hv_machine machine = {.name = "db"};

static int look(struct sa_hv_machine *m, enum sa_hv_state *out, struct lb_err *err)
{
	void (*hook)(void) = on_look;

	(void)m;
	on_look = NULL;
	if (hook != NULL)
		hook();
	*out = state_now;
	return state_rc != 0 ? lb_err_set(err, (enum lb_code)state_rc, 0, "libvirtd is away") : 0;
}

static const struct sa_hv_ops ops = {.driver = "test", .state = look};

static void log_is(const void *p, size_t len)
{
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%.64s/serial.log", machine.dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, len), (ssize_t)len);
	(void)close(fd);
}

static int setup(void **state)
{
	(void)state;
	(void)snprintf(machine.dir, sizeof(machine.dir), "/tmp/lb_probe_XXXXXX");
	assert_non_null(mkdtemp(machine.dir));
	machine.ops = &ops;
	state_now = SA_HV_RUNNING;
	state_rc = 0;
	on_look = NULL;
	return 0;
}

static int teardown(void **state)
{
	static const char *const files[] = {"serial.log", "heartbeat.sock"};
	char path[128];

	(void)state;
	for (int i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof(path), "%.64s/%s", machine.dir, files[i]);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(machine.dir), 0);
	return 0;
}

static int serial(const char *text, uint64_t timeout_ns, struct lb_err *err)
{
	const struct sa_probe p = {.kind = SA_PROBE_SERIAL, .text = text, .timeout_ns = timeout_ns};
	char seen[64];

	return sa_hv_probe(&machine, &p, seen, sizeof(seen), NULL, err);
}

static void test_serial(void **state)
{
	struct lb_err err = {0};

	(void)state;
	log_is("one\ntwo up three\n", 17);
	assert_int_equal(serial("up", 10 * S, &err), 0);
	assert_int_equal(serial("down", 0, &err), LB_ETIMEDOUT);
	assert_non_null(strstr(err.msg, "last seen: two up three"));
}

/* Its console says what it was, not what it is. */
static void test_off(void **state)
{
	struct lb_err err = {0};

	(void)state;
	log_is("db login:\n", 10);
	state_now = SA_HV_OFF;
	assert_int_equal(serial("login:", 10 * S, &err), LB_ECLOSED);
	state_now = SA_HV_GONE;
	assert_int_equal(serial("login:", 10 * S, &err), LB_ECLOSED);
	state_now = SA_HV_RUNNING;
	state_rc = LB_EAGAIN; /* and who cannot be asked may be off */
	assert_int_equal(serial("login:", 0, &err), LB_ETIMEDOUT);
}

/* A prompt has no line end, and a console that was just set up begins with rubbish. */
static void test_nul(void **state)
{
	struct lb_err err = {0};

	(void)state;
	log_is("\0\0db login: ", 12);
	assert_int_equal(serial("login:", 0, &err), 0);
}

static void begin_anew(void)
{
	log_is("up\n", 3);
}

/* A console that grew long is begun anew by who writes it. */
static void test_shortened(void **state)
{
	struct lb_err err = {0};

	(void)state;
	log_is("a long line that says nothing\n", 30);
	on_look = begin_anew;
	assert_int_equal(serial("up", 10 * S, &err), 0);
}

/* A byte now and then, and never a line. */
static void *drip(void *arg)
{
	int *listener = arg, fd;

	while ((fd = accept(*listener, NULL, NULL)) >= 0) {
		while (send(fd, "x", 1, MSG_NOSIGNAL) == 1)
			(void)poll(NULL, 0, 100);
		(void)close(fd);
	}
	return NULL;
}

static void test_drip(void **state)
{
	const struct sa_probe p = {.kind = SA_PROBE_HEARTBEAT, .timeout_ns = S};
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct lb_err err = {0};
	pthread_t guest;

	(void)state;
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%.64s/heartbeat.sock", machine.dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(pthread_create(&guest, NULL, drip, &fd), 0);
	assert_int_equal(sa_hv_probe(&machine, &p, NULL, 0, NULL, &err), 0); /* it does speak */
	(void)shutdown(fd, SHUT_RDWR);
	assert_int_equal(pthread_join(guest, NULL), 0);
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_serial, setup, teardown),
		cmocka_unit_test_setup_teardown(test_off, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nul, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shortened, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drip, setup, teardown),
	};

	(void)alarm(60); /* watchdog: a byte in 100 ms makes a line of them in 102 s */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
