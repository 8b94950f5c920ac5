#include <openssl/evp.h>
#include <stdlib.h>

#include "base/env.h"
#include "base/err.h"
#include "base/seal.h"
#include "check.h"
#include "seal_int.h"

/* C2SP XAES-256-GCM, "Test Vectors". */
static void check_xaes(uint8_t key_byte, const char *aad, const char *expect)
{
	static const char plain[] = "XAES-256-GCM";
	static const char nonce[] = "ABCDEFGHIJKLMNOPQRSTUVWX";
	struct lb_sealer *s = NULL;
	struct lb_key k;
	uint8_t out[12 + LB_SEAL_TAG_BYTES];

	memset(k.b, key_byte, sizeof(k.b));
	assert_int_equal(lb_sealer_create(&s, &k, NULL), 0);
	assert_int_equal(lb_seal(s, out, out + 12, (const uint8_t *)nonce, aad, strlen(aad), plain,
				 12, NULL),
			 0);
	check_hex(out, sizeof(out), expect);
	assert_int_equal(lb_unseal(s, out, out + 12, (const uint8_t *)nonce, aad, strlen(aad), out,
				   12, NULL),
			 0);
	assert_memory_equal(out, plain, 12);
	lb_sealer_destroy(s);
}

static void test_xaes_vectors(void **state)
{
	(void)state;
	check_xaes(1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271");
	check_xaes(3, "c2sp.org/XAES-256-GCM",
		   "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d");
}

/* One step of the accumulated test: everything comes from the stream at *@p. */
static void accumulate(EVP_MD_CTX *sum, const uint8_t **p)
{
	struct lb_sealer *s = NULL;
	struct lb_key k;
	uint8_t out[256 + LB_SEAL_TAG_BYTES];
	uint8_t back[256];
	const uint8_t *nonce = *p + 32;
	const uint8_t *plain = nonce + 25;
	size_t len = nonce[24];
	const uint8_t *aad = plain + len + 1;
	size_t aad_len = plain[len];

	memcpy(k.b, *p, sizeof(k.b));
	*p = aad + aad_len;
	assert_int_equal(lb_sealer_create(&s, &k, NULL), 0);
	assert_int_equal(lb_seal(s, out, out + len, nonce, aad, aad_len, plain, len, NULL), 0);
	assert_int_equal(EVP_DigestUpdate(sum, out, len + LB_SEAL_TAG_BYTES), 1);
	assert_int_equal(lb_unseal(s, back, out + len, nonce, aad, aad_len, out, len, NULL), 0);
	assert_memory_equal(back, plain, len);
	lb_sealer_destroy(s);
}

/* C2SP's randomised vectors: key, nonce, sizes and texts from SHAKE128(""), ciphertexts hashed. */
static void test_xaes_accumulated(void **state)
{
	enum {
		ROUNDS = 10000,
		STREAM = ROUNDS * (32 + 24 + 256 + 256)
	};
	uint8_t *stream = malloc(STREAM);
	const uint8_t *p = stream;
	uint8_t digest[32];
	EVP_MD_CTX *xof = EVP_MD_CTX_new();
	EVP_MD_CTX *sum = EVP_MD_CTX_new();

	(void)state;
	assert_non_null(stream);
	assert_int_equal(EVP_DigestInit_ex(xof, EVP_shake128(), NULL), 1);
	assert_int_equal(EVP_DigestFinalXOF(xof, stream, STREAM), 1);
	assert_int_equal(EVP_DigestInit_ex(sum, EVP_shake128(), NULL), 1);
	for (int i = 0; i < ROUNDS; i++)
		accumulate(sum, &p);
	assert_int_equal(EVP_DigestFinalXOF(sum, digest, sizeof(digest)), 1);
	check_hex(digest, sizeof(digest),
		  "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939");
	EVP_MD_CTX_free(xof);
	EVP_MD_CTX_free(sum);
	free(stream);
}

struct sealed {
	struct lb_sealer *s;
	uint8_t nonce[LB_SEAL_NONCE_BYTES];
	uint8_t tag[LB_SEAL_TAG_BYTES];
	uint8_t text[32];
	uint8_t out[32];
};

static void seal_one(struct sealed *x)
{
	struct lb_key k = {{7}};

	memset(x, 0, sizeof(*x));
	assert_int_equal(lb_sealer_create(&x->s, &k, NULL), 0);
	assert_int_equal(lb_seal(x->s, x->text, x->tag, x->nonce, "ad", 2, x->text, 32, NULL), 0);
}

static int unseal_one(struct sealed *x, const char *aad, size_t len)
{
	memset(x->out, 0xee, sizeof(x->out));
	return lb_unseal(x->s, x->out, x->tag, x->nonce, aad, strlen(aad), x->text, len, NULL);
}

static void test_unseal_refuses_any_change(void **state)
{
	static const uint8_t zeros[32] = {0};
	struct sealed x;

	(void)state;
	seal_one(&x);
	for (size_t i = 0; i < sizeof(x.text); i++) {
		x.text[i] ^= 0x10;
		assert_int_equal(unseal_one(&x, "ad", 32), LB_ECORRUPT);
		assert_memory_equal(x.out, zeros, 32);
		x.text[i] ^= 0x10;
	}
	for (size_t i = 0; i < sizeof(x.tag); i++) {
		x.tag[i] ^= 1;
		assert_int_equal(unseal_one(&x, "ad", 32), LB_ECORRUPT);
		x.tag[i] ^= 1;
	}
	for (size_t i = 0; i < sizeof(x.nonce); i++) {
		x.nonce[i] ^= 1;
		assert_int_equal(unseal_one(&x, "ad", 32), LB_ECORRUPT);
		x.nonce[i] ^= 1;
	}
	assert_int_equal(unseal_one(&x, "ae", 32), LB_ECORRUPT);
	assert_int_equal(unseal_one(&x, "", 32), LB_ECORRUPT);
	assert_int_equal(unseal_one(&x, "ad", 31), LB_ECORRUPT);
	/* And after all those failures the sealer still works. */
	assert_int_equal(unseal_one(&x, "ad", 32), 0);
	assert_memory_equal(x.out, zeros, 32);
	lb_sealer_destroy(x.s);
	lb_sealer_destroy(NULL);
}

static void test_seal_empty_and_too_long(void **state)
{
	struct sealed x;
	struct lb_err err;

	(void)state;
	seal_one(&x);
	assert_int_equal(lb_seal(x.s, NULL, x.tag, x.nonce, NULL, 0, NULL, 0, NULL), 0);
	assert_int_equal(lb_unseal(x.s, NULL, x.tag, x.nonce, NULL, 0, NULL, 0, NULL), 0);
	x.tag[0] ^= 1;
	assert_int_equal(lb_unseal(x.s, NULL, x.tag, x.nonce, NULL, 0, NULL, 0, NULL), LB_ECORRUPT);
	assert_int_equal(lb_seal(x.s, x.out, x.tag, x.nonce, NULL, 0, x.out, SIZE_MAX, &err),
			 LB_EINVAL);
	assert_int_equal(lb_unseal(x.s, x.out, x.tag, x.nonce, NULL, SIZE_MAX, x.out, 0, &err),
			 LB_EINVAL);
	lb_sealer_destroy(x.s);
}

/* RFC 8032 section 7.1, tests 1 to 3. */
static void test_ed25519_vectors(void **state)
{
	static const struct {
		const char *seed, *pub, *msg, *sig;
	} rows[] = {
		{"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
		 "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
		 "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
		 "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
		{"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
		 "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
		 "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
		 "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
		{"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
		 "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
		 "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
		 "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct lb_signer *s = NULL;
		struct lb_pubkey pub;
		struct lb_sig sig;
		uint8_t seed[32];
		uint8_t back[32];
		uint8_t msg[8];
		size_t len = check_unhex(msg, sizeof(msg), rows[i].msg);

		(void)check_unhex(seed, sizeof(seed), rows[i].seed);
		assert_int_equal(lb_signer_from_seed(&s, seed, NULL), 0);
		lb_signer_pubkey(s, &pub);
		check_hex(pub.b, sizeof(pub.b), rows[i].pub);
		assert_int_equal(lb_sign_raw(s, &sig, msg, len, NULL), 0);
		check_hex(sig.b, sizeof(sig.b), rows[i].sig);
		assert_int_equal(lb_sig_verify_raw(&pub, &sig, msg, len, NULL), 0);
		sig.b[40] ^= 1;
		assert_int_equal(lb_sig_verify_raw(&pub, &sig, msg, len, NULL), LB_ECORRUPT);
		lb_signer_export(s, back);
		assert_memory_equal(back, seed, sizeof(seed));
		lb_signer_destroy(s);
	}
}

static void test_sign_binds_purpose_and_key(void **state)
{
	static const char framed[] = "lifeboat manifest\0abc";
	struct lb_signer *s = NULL;
	struct lb_signer *other = NULL;
	struct lb_pubkey pub;
	struct lb_pubkey other_pub;
	struct lb_sig sig;

	(void)state;
	assert_int_equal(lb_signer_generate(&s, lb_env_real(), NULL), 0);
	assert_int_equal(lb_signer_generate(&other, lb_env_real(), NULL), 0);
	lb_signer_pubkey(s, &pub);
	lb_signer_pubkey(other, &other_pub);
	assert_int_equal(lb_sign(s, &sig, "manifest", "abc", 3, NULL), 0);
	assert_int_equal(lb_sig_verify(&pub, &sig, "manifest", "abc", 3, NULL), 0);
	assert_int_equal(lb_sig_verify(&pub, &sig, "span", "abc", 3, NULL), LB_ECORRUPT);
	assert_int_equal(lb_sig_verify(&pub, &sig, "manifest", "abd", 3, NULL), LB_ECORRUPT);
	assert_int_equal(lb_sig_verify(&pub, &sig, "manifest", "ab", 2, NULL), LB_ECORRUPT);
	assert_int_equal(lb_sig_verify(&other_pub, &sig, "manifest", "abc", 3, NULL), LB_ECORRUPT);
	/* The exact bytes that are signed are part of the format. */
	assert_int_equal(lb_sig_verify_raw(&pub, &sig, framed, sizeof(framed) - 1, NULL), 0);
	assert_int_equal(lb_sign(s, &sig, "empty", NULL, 0, NULL), 0);
	assert_int_equal(lb_sig_verify(&pub, &sig, "empty", NULL, 0, NULL), 0);
	lb_signer_destroy(s);
	lb_signer_destroy(other);
	lb_signer_destroy(NULL);
}

/* RFC 5649 section 6. */
static void test_wrap_vectors(void **state)
{
	static const char kek_hex[] = "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8";
	static const struct {
		const char *key, *wrapped;
	} rows[] = {
		{"c37b7e6492584340bed12207808941155068f738",
		 "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
		{"466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"},
	};
	uint8_t kek[24];

	(void)state;
	(void)check_unhex(kek, sizeof(kek), kek_hex);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t key[32];
		uint8_t out[64];
		uint8_t back[64];
		size_t len = check_unhex(key, sizeof(key), rows[i].key);
		struct lb_kwp w = {.kek = kek, .kek_len = 24, .in = key, .len = len, .out = out};
		struct lb_kwp u = {.kek = kek, .kek_len = 24, .in = out, .out = back};

		assert_int_equal(lb_kwp_run(&w, 1), 0);
		check_hex(out, w.out_len, rows[i].wrapped);
		u.len = w.out_len;
		assert_int_equal(lb_kwp_run(&u, 0), 0);
		assert_int_equal(u.out_len, len);
		assert_memory_equal(back, key, len);
	}
}

static void test_wrap_keys(void **state)
{
	struct lb_key kek;
	struct lb_key other;
	struct lb_key key;
	struct lb_key back = {{42}};
	uint8_t w[LB_WRAP_BYTES];

	(void)state;
	lb_key_random(&kek, lb_env_real());
	lb_key_random(&other, lb_env_real());
	lb_key_random(&key, lb_env_real());
	assert_int_equal(lb_key_wrap(w, &kek, &key, NULL), 0);
	assert_int_equal(lb_key_unwrap(&back, &other, w, NULL), LB_ECORRUPT);
	assert_int_equal(back.b[0], 42);
	for (size_t i = 0; i < sizeof(w); i++) {
		w[i] ^= 1;
		assert_int_equal(lb_key_unwrap(&back, &kek, w, NULL), LB_ECORRUPT);
		w[i] ^= 1;
	}
	assert_int_equal(lb_key_unwrap(&back, &kek, w, NULL), 0);
	assert_memory_equal(back.b, key.b, sizeof(key.b));
}

/* RFC 5649 has no 256-bit KEK: this one was computed from its section 4 over single AES blocks. */
static void test_wrap_256_vector(void **state)
{
	struct lb_key kek;
	struct lb_key key;
	uint8_t w[LB_WRAP_BYTES];

	(void)state;
	for (uint8_t i = 0; i < 32; i++) {
		kek.b[i] = i;
		key.b[i] = (uint8_t)(0x80 + i);
	}
	assert_int_equal(lb_key_wrap(w, &kek, &key, NULL), 0);
	check_hex(
		w, sizeof(w),
		"0b0607b05fd577de7c1cefae2313277d0d36fcb4b3f04f1332c5023c0388e342164f8531741a21ae");
}

static void test_key_id_and_wipe(void **state)
{
	struct lb_key a = {{1}};
	struct lb_key b = {{2}};
	struct lb_id ia;
	struct lb_id ib;

	(void)state;
	lb_key_id(&ia, &a);
	lb_key_id(&ib, &b);
	assert_false(lb_id_equal(&ia, &ib));
	check_hex(ia.b, sizeof(ia.b), "1431cd94f791905d390cbd35ae994e5b");
	lb_key_wipe(&a);
	for (size_t i = 0; i < sizeof(a.b); i++)
		assert_int_equal(a.b[i], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_xaes_vectors),
		cmocka_unit_test(test_xaes_accumulated),
		cmocka_unit_test(test_unseal_refuses_any_change),
		cmocka_unit_test(test_seal_empty_and_too_long),
		cmocka_unit_test(test_ed25519_vectors),
		cmocka_unit_test(test_sign_binds_purpose_and_key),
		cmocka_unit_test(test_wrap_vectors),
		cmocka_unit_test(test_wrap_256_vector),
		cmocka_unit_test(test_wrap_keys),
		cmocka_unit_test(test_key_id_and_wipe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
