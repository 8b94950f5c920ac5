/*
 * base/id.h - the two fixed-size names of the product: random 128-bit ids and SHA-256 hashes.
 *
 * Ids name deployments, sites, groups, machines, volumes, layers and runs. They are random (never
 * derived from a name or a counter) and travel as 16 raw bytes; people see 32 hex digits, and may
 * give any unique prefix of at least 4. Hashes are 32 raw bytes, 64 hex digits.
 */
#ifndef BASE_ID_H
#define BASE_ID_H

#include <stdbool.h>
#include <stdint.h>

struct lb_err;
struct lb_env;

#define LB_ID_BYTES   16u
#define LB_HASH_BYTES 32u
#define LB_ID_TEXT    33u /* bytes to print an id with its NUL */
#define LB_HASH_TEXT  65u

struct lb_id {
	uint8_t b[LB_ID_BYTES];
};

struct lb_hash {
	uint8_t b[LB_HASH_BYTES]; /* SHA-256 */
};

bool lb_id_equal(const struct lb_id *a, const struct lb_id *b);
int lb_id_compare(const struct lb_id *a, const struct lb_id *b); /* as memcmp */
bool lb_id_is_zero(const struct lb_id *id);
void lb_id_random(struct lb_id *out, struct lb_env *env);
bool lb_hash_equal(const struct lb_hash *a, const struct lb_hash *b);
bool lb_hash_is_zero(const struct lb_hash *h);

/* Lower-case hex into @out, which holds LB_ID_TEXT / LB_HASH_TEXT bytes; returns @out. */
const char *lb_id_text(const struct lb_id *id, char *out);
const char *lb_hash_text(const struct lb_hash *h, char *out);

/* Parse exactly 32 / 64 hex digits. Errors: LB_EINPUT. */
int lb_id_parse(struct lb_id *out, const char *text, struct lb_err *err);
int lb_hash_parse(struct lb_hash *out, const char *text, struct lb_err *err);

#endif
