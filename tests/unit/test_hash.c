#include <stdlib.h>

#include "base/hash.h"
#include "check.h"
#include "hash_int.h"
#include "sha256x_int.h"

static void check_sha(const char *text, const char *hex)
{
	struct lb_hash h;

	lb_sha256(&h, text, strlen(text));
	check_hex(h.b, sizeof(h.b), hex);
}

/* FIPS 180-4 examples. */
static void test_sha256_vectors(void **state)
{
	(void)state;
	check_sha("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	check_sha("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	check_sha("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void test_sha256_incremental(void **state)
{
	struct lb_sha256 *s = NULL;
	struct lb_hash h;

	(void)state;
	assert_int_equal(lb_sha256_create(&s, NULL), 0);
	for (int round = 0; round < 2; round++) { /* final resets */
		for (int i = 0; i < 1000000; i += 100) {
			char chunk[100];

			memset(chunk, 'a', sizeof(chunk));
			lb_sha256_update(s, chunk, sizeof(chunk));
		}
		lb_sha256_final(s, &h);
		check_hex(h.b, sizeof(h.b),
			  "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	}
	lb_sha256_destroy(s);
	lb_sha256_destroy(NULL);
	lb_sha256_2(&h, "ab", 2, "c", 1);
	check_hex(h.b, sizeof(h.b),
		  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* RFC 3720 B.4. */
static void test_crc32c_vectors(void **state)
{
	uint8_t buf[32] = {0};

	(void)state;
	assert_true(lb_crc32c(0, buf, 32) == 0x8a9136aa);
	memset(buf, 0xff, 32);
	assert_true(lb_crc32c(0, buf, 32) == 0x62a8ab43);
	for (uint8_t i = 0; i < 32; i++)
		buf[i] = i;
	assert_true(lb_crc32c(0, buf, 32) == 0x46dd794e);
	assert_true(lb_crc32c(0, "123456789", 9) == 0xe3069283);
	assert_true(lb_crc32c(0, NULL, 0) == 0);
}

static void test_crc32c_paths_agree(void **state)
{
	static uint8_t buf[5000];
	uint32_t x = 12345;

	(void)state;
	for (size_t i = 0; i < sizeof(buf); i++) {
		x = x * 1664525u + 1013904223u;
		buf[i] = (uint8_t)(x >> 24);
	}
	for (size_t len = 0; len < 70; len++)
		for (size_t off = 0; off < 9; off++)
			assert_true(lb_crc32c(77, buf + off, len) ==
				    lb_crc32c_table(77, buf + off, len));
	assert_true(lb_crc32c(0, buf, 5000) == lb_crc32c_table(0, buf, 5000));
	/* Continuing equals doing it at once. */
	assert_true(lb_crc32c(lb_crc32c(0, buf, 1234), buf + 1234, 5000 - 1234) ==
		    lb_crc32c(0, buf, 5000));
}

static void test_xxh3(void **state)
{
	uint8_t secret[LB_XXH_SECRET_BYTES];
	uint8_t data[4096] = {0};
	struct lb_digest a;
	struct lb_digest b;

	(void)state;
	for (size_t i = 0; i < sizeof(secret); i++)
		secret[i] = (uint8_t)(i * 7 + 1);
	lb_xxh3(&a, data, sizeof(data), secret);
	lb_xxh3(&b, data, sizeof(data), secret);
	assert_memory_equal(a.b, b.b, sizeof(a.b));
	data[4095] ^= 1;
	lb_xxh3(&b, data, sizeof(data), secret);
	assert_memory_not_equal(a.b, b.b, sizeof(a.b));
	data[4095] ^= 1;
	secret[100] ^= 1;
	lb_xxh3(&b, data, sizeof(data), secret);
	assert_memory_not_equal(a.b, b.b, sizeof(a.b));
}

/* The tree of RFC 6962 / RFC 9162 test suites (certificate-transparency reference vectors). */
static void test_merkle_vectors(void **state)
{
	static const char *const inputs[8] = {"",
					      "00",
					      "10",
					      "2021",
					      "3031",
					      "40414243",
					      "5051525354555657",
					      "606162636465666768696a6b6c6d6e6f"};
	static const char *const roots[9] = {
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	};
	struct lb_hash leaves[8];
	struct lb_hash root;

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		uint8_t in[16];
		size_t len = check_unhex(in, sizeof(in), inputs[i]);

		lb_merkle_leaf(&leaves[i], in, len);
	}
	for (size_t n = 0; n <= 8; n++) {
		lb_merkle_root(&root, leaves, n);
		check_hex(root.b, sizeof(root.b), roots[n]);
	}
}

/* The recursive definition, written as the RFC writes it. */
static void merkle_by_definition(struct lb_hash *out, const struct lb_hash *leaves, size_t n)
{
	struct lb_hash pair[2];
	uint8_t node[1 + 2 * LB_HASH_BYTES];
	size_t k = 1;

	if (n == 1) {
		*out = leaves[0];
		return;
	}
	while (k * 2 < n)
		k *= 2;
	merkle_by_definition(&pair[0], leaves, k);
	merkle_by_definition(&pair[1], leaves + k, n - k);
	node[0] = 1;
	memcpy(node + 1, pair[0].b, LB_HASH_BYTES);
	memcpy(node + 1 + LB_HASH_BYTES, pair[1].b, LB_HASH_BYTES);
	lb_sha256(out, node, sizeof(node));
}

static void test_merkle_any_size(void **state)
{
	static struct lb_hash leaves[131];
	struct lb_hash a;
	struct lb_hash b;

	(void)state;
	for (uint8_t i = 0; i < 131; i++)
		lb_merkle_leaf(&leaves[i], &i, 1);
	for (size_t n = 1; n <= 131; n++) {
		lb_merkle_root(&a, leaves, n);
		merkle_by_definition(&b, leaves, n);
		assert_true(lb_hash_equal(&a, &b));
	}
}

/* The leaf of long data, by its definition: pieces hashed one by one, then the tree. */
static void leaf_by_definition(struct lb_hash *out, const uint8_t *p, size_t len)
{
	static struct lb_hash leaves[600];
	static const uint8_t tag = 0;
	size_t n = 0;

	for (size_t at = 0; at < len || n == 0; at += LB_PIECE_BYTES, n++) {
		size_t piece = len - at < LB_PIECE_BYTES ? len - at : LB_PIECE_BYTES;

		assert_true(n < 600);
		lb_sha256_2(&leaves[n], &tag, 1, p + at, piece);
	}
	merkle_by_definition(out, leaves, n);
}

static void test_leaf_of_pieces(void **state)
{
	static uint8_t data[600 * LB_PIECE_BYTES];
	static const size_t pieces[] = {0,  1,  2,  3,  4,  5,   15,  16,  17,  18,  19,  31,  32,
					33, 63, 64, 65, 66, 127, 128, 129, 191, 192, 193, 512, 513};
	static const int around[] = {-1, 0, 1, 1024};
	struct lb_hash a;
	struct lb_hash b;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)((i * 2654435761u) >> 11);
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		for (size_t k = 0; k < 4; k++) {
			if (pieces[i] == 0 && around[k] < 0)
				continue;
			size_t len = pieces[i] * LB_PIECE_BYTES + (size_t)around[k];

			lb_merkle_leaf(&a, data + 1, len);
			leaf_by_definition(&b, data + 1, len);
			if (!lb_hash_equal(&a, &b))
				fail_msg("leaf of %zu bytes", len);
		}
	}
}

/* Messages of different and of equal lengths give side by side what one after the other gives. */
static void check_unit(enum lb_sha256x_unit unit)
{
	uint8_t data[4096];
	struct lb_sha256x_msg msg[LB_SHA256X_LANES];
	struct lb_hash got[LB_SHA256X_LANES];
	struct lb_hash want;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	for (size_t len = 0; len < 600; len++) {
		size_t n = 1 + len % LB_SHA256X_LANES;
		uint8_t tag = (uint8_t)len;

		for (size_t i = 0; i < n; i++)
			msg[i] = (struct lb_sha256x_msg){data + i, len < 400 ? (len + 53 * i) % 301
									     : len * 5};
		lb_sha256x(unit, got, tag, msg, n);
		for (size_t i = 0; i < n; i++) {
			lb_sha256_2(&want, &tag, 1, msg[i].p, msg[i].len);
			assert_true(lb_hash_equal(&got[i], &want));
		}
	}
}

static void test_side_by_side(void **state)
{
	static const enum lb_sha256x_unit all[] = {LB_SHA256X_AVX2, LB_SHA256X_AVX512,
						   LB_SHA256X_SHA};

	(void)state;
	assert_true(lb_sha256x_has(lb_sha256x_best()));
	for (unsigned i = 0; i < 3; i++)
		if (lb_sha256x_has(all[i])) /* else lb_merkle_leaf() does not use it either */
			check_unit(all[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sha256_vectors),
		cmocka_unit_test(test_sha256_incremental),
		cmocka_unit_test(test_crc32c_vectors),
		cmocka_unit_test(test_crc32c_paths_agree),
		cmocka_unit_test(test_xxh3),
		cmocka_unit_test(test_merkle_vectors),
		cmocka_unit_test(test_merkle_any_size),
		cmocka_unit_test(test_leaf_of_pieces),
		cmocka_unit_test(test_side_by_side),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
