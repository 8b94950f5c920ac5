#include "base/id.h"

#include <stddef.h>
#include <string.h>

#include "base/env.h"
#include "base/err.h"

bool lb_id_equal(const struct lb_id *a, const struct lb_id *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

int lb_id_compare(const struct lb_id *a, const struct lb_id *b)
{
	return memcmp(a->b, b->b, sizeof(a->b));
}

static bool all_zero(const uint8_t *p, size_t len)
{
	uint8_t any = 0;

	for (size_t i = 0; i < len; i++)
		any |= p[i];
	return any == 0;
}

bool lb_id_is_zero(const struct lb_id *id)
{
	return all_zero(id->b, sizeof(id->b));
}

void lb_id_random(struct lb_id *out, struct lb_env *env)
{
	env->random(env, out->b, sizeof(out->b));
}

bool lb_hash_equal(const struct lb_hash *a, const struct lb_hash *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

bool lb_hash_is_zero(const struct lb_hash *h)
{
	return all_zero(h->b, sizeof(h->b));
}

static const char *hex_text(const uint8_t *p, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * len] = 0;
	return out;
}

const char *lb_id_text(const struct lb_id *id, char *out)
{
	return hex_text(id->b, sizeof(id->b), out);
}

const char *lb_hash_text(const struct lb_hash *h, char *out)
{
	return hex_text(h->b, sizeof(h->b), out);
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static int hex_parse(uint8_t *out, size_t len, const char *text, struct lb_err *err)
{
	if (strnlen(text, 2 * len + 1) != 2 * len)
		goto refuse;
	for (size_t i = 0; i < len; i++) {
		int hi = digit_value(text[2 * i]);
		int lo = digit_value(text[2 * i + 1]);

		if (hi < 0 || lo < 0)
			goto refuse;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
refuse:
	return lb_err_set(err, LB_EINPUT, 0, "parse \"%.80s\" as %zu hex digits", text, 2 * len);
}

int lb_id_parse(struct lb_id *out, const char *text, struct lb_err *err)
{
	struct lb_id id;
	int rc = hex_parse(id.b, sizeof(id.b), text, err);

	if (rc == 0)
		*out = id;
	return rc;
}

int lb_hash_parse(struct lb_hash *out, const char *text, struct lb_err *err)
{
	struct lb_hash h;
	int rc = hex_parse(h.b, sizeof(h.b), text, err);

	if (rc == 0)
		*out = h;
	return rc;
}
