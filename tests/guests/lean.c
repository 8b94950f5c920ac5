/*
 * tests/guests/lean.c - /init of the initramfs for machines whose kernel runs in an emulator, where
 * every system call takes a third of a millisecond and every process a second: no shell, no
 * busybox.
 *
 * Loads the modules of /modules.order, mounts /dev/vda (ext4), has the writer walk its chain and
 * append lbrecords=N records (kernel command line; default 10), waits for the power button if there
 * is one, and switches the machine off. On the console, beside the writer's lines: LBV INIT,
 * LBV MOUNTED, LBV DONE, LBV BUTTON, or LBV BAD <what>.
 */
#define INIT_TAG "LBV"

#include <linux/input.h>
#include <poll.h>
#include <sys/wait.h>

#include "init.h"

static void write_records(void)
{
	char *count = getenv("lbrecords");
	char *const argv[] = {"drwriter", "-w", count == NULL ? "10" : count, "/data/records",
			      NULL};
	int status = 0;
	pid_t pid = vfork();

	if (pid == 0) {
		execv("/drwriter", argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		bad("writer");
}

enum {
	INPUTS_MAX = 8
};

static nfds_t open_inputs(struct pollfd in[INPUTS_MAX])
{
	char path[32];
	nfds_t n = 0;

	for (int i = 0; i < INPUTS_MAX; i++) {
		snprintf(path, sizeof path, "/dev/input/event%d", i);
		in[n] = (struct pollfd){.fd = open(path, O_RDONLY | O_CLOEXEC), .events = POLLIN};
		n += in[n].fd >= 0;
	}
	return n;
}

static void wait_button(struct pollfd *in, nfds_t n)
{
	struct input_event e;

	while (n > 0 && poll(in, n, -1) > 0) {
		for (nfds_t i = 0; i < n; i++) {
			if ((in[i].revents & POLLIN) == 0 ||
			    read(in[i].fd, &e, sizeof e) != (ssize_t)sizeof e)
				continue;
			if (e.type == EV_KEY && e.code == KEY_POWER && e.value == 1) {
				say("BUTTON");
				return;
			}
		}
	}
}

int main(void)
{
	struct pollfd in[INPUTS_MAX];
	nfds_t inputs;

	begin();
	if (mount("/dev/vda", "/data", "ext4", 0, "") != 0)
		bad("mount");
	say("MOUNTED");
	write_records();
	if (umount("/data") != 0)
		bad("umount");
	inputs = open_inputs(in);
	say("DONE");
	wait_button(in, inputs);
	off();
}
