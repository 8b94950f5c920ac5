/*
 * tests/guests/ide.c - /init of a machine whose disk is IDE: Linux's own driver, by DMA.
 *
 * Loads the modules of /modules.order, waits for /dev/sda, writes a pattern past the page cache all
 * over it, reads it back, and switches the machine off. On the console: LBI INIT, LBI DISK,
 * LBI OK <blocks>, or LBI BAD <what>. Block n of 4 KiB holds the 64-bit words n * 1000003 + i.
 */
#define INIT_TAG "LBI"

#include <linux/fs.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "init.h"

enum {
	BLOCK = 4096,
	BATCH = 32, /* blocks of one request */
};

static uint64_t buf[BATCH * BLOCK / 8] __attribute__((aligned(BLOCK)));

/* The driver looks for disks on a thread of its own. */
static int open_disk(void)
{
	for (;;) {
		int fd = open("/dev/sda", O_RDWR | O_DIRECT | O_CLOEXEC);

		if (fd >= 0)
			return fd;
		usleep(100000);
	}
}

static void fill(uint64_t first)
{
	for (uint64_t b = 0; b < BATCH; b++)
		for (uint64_t i = 0; i < BLOCK / 8; i++)
			buf[b * BLOCK / 8 + i] = (first + b) * 1000003 + i;
}

static void check(uint64_t first)
{
	for (uint64_t b = 0; b < BATCH; b++)
		for (uint64_t i = 0; i < BLOCK / 8; i++)
			if (buf[b * BLOCK / 8 + i] != (first + b) * 1000003 + i)
				bad("another block came back");
}

/* "XFER_MW_DMA_2", or "XFER_PIO_4" when it fell back. */
static void say_mode(void)
{
	char mode[32] = "";
	FILE *f;

	if (mount("sysfs", "/sys", "sysfs", 0, "") != 0)
		bad("sysfs");
	f = fopen("/sys/class/ata_device/dev1.0/dma_mode", "re");
	if (f == NULL || fgets(mode, sizeof mode, f) == NULL)
		bad("dma_mode");
	fclose(f);
	mode[strcspn(mode, "\n")] = '\0';
	say("MODE %s", mode);
}

int main(void)
{
	uint64_t bytes = 0, blocks;
	int fd;

	begin();
	fd = open_disk();
	if (ioctl(fd, BLKGETSIZE64, &bytes) != 0)
		bad("size");
	blocks = bytes / BLOCK / BATCH * BATCH;
	say("DISK %llu", (unsigned long long)bytes);
	say_mode();
	for (uint64_t b = 0; b < blocks; b += BATCH) {
		fill(b);
		if (pwrite(fd, buf, sizeof buf, (off_t)(b * BLOCK)) != sizeof buf)
			bad("write");
	}
	if (fsync(fd) != 0)
		bad("flush");
	for (uint64_t b = 0; b < blocks; b += BATCH) {
		memset(buf, 0, sizeof buf);
		if (pread(fd, buf, sizeof buf, (off_t)(b * BLOCK)) != sizeof buf)
			bad("read");
		check(b);
	}
	say("OK %llu", (unsigned long long)blocks);
	off();
}
