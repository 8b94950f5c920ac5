/*
 * tests/lib/grub_point.h - a disk with Debian's GRUB (tests/guests/grub-disk.sh), replicated into a
 * store, and a recovery point of it served by nbdkit and the view plugin, as in a drill.
 */
#ifndef TESTS_GRUB_POINT_H
#define TESTS_GRUB_POINT_H

#include "view_point.h"

#define GRUB_DISK_BLOCKS 128u
#define GRUB_DISK_BYTES  ((uint64_t)GRUB_DISK_BLOCKS * REP_BLOCK_BYTES)
#define GRUB_TEXT        "lifeboat: here is GRUB" /* what it says, and then: */
#define GRUB_LAST_TEXT   "That is all."

/* @script makes the disk, with a file of @words on it unless NULL. The caller has a watchdog, and
 * ends it with view_point_fini(). */
void grub_point_init(struct view_point *g, const char *plugin, const char *script,
		     const char *words);

#endif
