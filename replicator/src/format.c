#include <string.h>

#include "format_int.h"

bool rep_name_valid(const char *s)
{
	size_t n = strnlen(s, REP_NAME_MAX + 1);

	if (n < 1 || n > REP_NAME_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = s[i];
		bool alnum =
			(c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

		if (!alnum && c != '.' && c != '_' && c != '-')
			return false;
	}
	return true;
}

bool rep_volume_bytes_valid(uint64_t bytes)
{
	return bytes > 0 && bytes <= REP_VOLUME_MAX_BYTES && bytes % REP_BLOCK_BYTES == 0;
}

bool rep_volume_kind_valid(unsigned kind)
{
	return kind == REP_VOLUME_DISK || kind == REP_VOLUME_RAM;
}

bool rep_rd_zeros(struct lb_rd *rd, size_t len)
{
	const uint8_t *p = lb_rd_bytes(rd, len);

	if (p == NULL)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (p[i] != 0)
			return false;
	}
	return true;
}

bool rep_rd_name(struct lb_rd *rd, char *out)
{
	lb_rd_str16(rd, out, REP_NAME_MAX + 1);
	return !rd->bad && rep_name_valid(out);
}
