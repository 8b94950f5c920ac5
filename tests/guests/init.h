/*
 * tests/guests/init.h - what every /init written in C does: say how far it is, load the modules,
 * end. INIT_TAG begins its lines. One file a program: everything is static.
 */
#ifndef TESTS_GUESTS_INIT_H
#define TESTS_GUESTS_INIT_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

static void __attribute__((format(printf, 1, 2))) say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf(INIT_TAG " ");
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
	fflush(stdout);
}

static void off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT); /* without ACPI there is no other end */
	for (;;)
		pause();
}

static void bad(const char *what)
{
	say("BAD %s: %s", what, strerror(errno));
	off();
}

static void load_modules(void)
{
	char name[64], path[128];
	FILE *order = fopen("/modules.order", "re");

	if (order == NULL)
		bad("modules.order");
	while (fscanf(order, "%63s", name) == 1) {
		int fd;

		snprintf(path, sizeof path, "/modules/%s.ko", name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0)
			bad(name);
		close(fd);
	}
	fclose(order);
}

/* The first lines of every main(). */
static void begin(void)
{
	say("INIT");
	if (mount("devtmpfs", "/dev", "devtmpfs", 0, "") != 0)
		bad("devtmpfs");
	load_modules();
}

#endif
