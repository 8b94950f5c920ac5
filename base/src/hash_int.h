/* The software path of CRC32C, visible so that a test compares it with the hardware one. */
#ifndef HASH_INT_H
#define HASH_INT_H

#include <stddef.h>
#include <stdint.h>

uint32_t lb_crc32c_table(uint32_t crc, const void *p, size_t len);

#endif
