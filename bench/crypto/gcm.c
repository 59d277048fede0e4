/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/gcm.h"

#include "core/util.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

struct cvb_gcm {
	EVP_CIPHER_CTX *seal, *open;
};

int cvb_gcm_new(struct cvb_gcm **ret, unsigned bits, const uint8_t *key, struct cvb_err *err)
{
	const EVP_CIPHER *cipher = bits == 128 ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
	struct cvb_gcm *g = calloc(1, sizeof(*g));

	CVB_BUG_ON(bits != 128 && bits != 256);
	if (!g)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	g->seal = EVP_CIPHER_CTX_new();
	g->open = EVP_CIPHER_CTX_new();
	if (!g->seal || !g->open) {
		cvb_gcm_free(g);
		return cvb_err_set(err, -ENOMEM, "out of memory");
	}
	if (EVP_EncryptInit_ex(g->seal, cipher, NULL, key, NULL) != 1 ||
	    EVP_DecryptInit_ex(g->open, cipher, NULL, key, NULL) != 1) {
		cvb_gcm_free(g);
		return cvb_err_set(err, -EOPNOTSUPP, "this libcrypto offers no AES-%u-GCM", bits);
	}
	*ret = g;
	return 0;
}

struct cvb_gcm *cvb_gcm_free(struct cvb_gcm *g)
{
	if (!g)
		return NULL;
	EVP_CIPHER_CTX_free(g->seal);
	EVP_CIPHER_CTX_free(g->open);
	free(g);
	return NULL;
}

int cvb_gcm_seal(struct cvb_gcm *g, const uint8_t iv[CVB_GCM_IV_BYTES], const uint8_t *src,
		 uint8_t *dst, size_t bytes, uint8_t tag[CVB_GCM_TAG_BYTES])
{
	uint8_t rest[CVB_GCM_TAG_BYTES];
	int n, m;

	if (EVP_EncryptInit_ex(g->seal, NULL, NULL, NULL, iv) != 1 ||
	    EVP_EncryptUpdate(g->seal, dst, &n, src, (int)bytes) != 1 ||
	    EVP_EncryptFinal_ex(g->seal, rest, &m) != 1 || (size_t)n != bytes || m != 0 ||
	    EVP_CIPHER_CTX_ctrl(g->seal, EVP_CTRL_AEAD_GET_TAG, CVB_GCM_TAG_BYTES, tag) != 1)
		return -EIO;
	return 0;
}

int cvb_gcm_open(struct cvb_gcm *g, const uint8_t iv[CVB_GCM_IV_BYTES], const uint8_t *src,
		 uint8_t *dst, size_t bytes, const uint8_t tag[CVB_GCM_TAG_BYTES])
{
	uint8_t rest[CVB_GCM_TAG_BYTES], want[CVB_GCM_TAG_BYTES];
	int n, m;

	memcpy(want, tag, sizeof(want)); /* the interface wants it writable */
	if (EVP_DecryptInit_ex(g->open, NULL, NULL, NULL, iv) != 1 ||
	    EVP_DecryptUpdate(g->open, dst, &n, src, (int)bytes) != 1 || (size_t)n != bytes ||
	    EVP_CIPHER_CTX_ctrl(g->open, EVP_CTRL_AEAD_SET_TAG, CVB_GCM_TAG_BYTES, want) != 1)
		return -EIO;
	return EVP_DecryptFinal_ex(g->open, rest, &m) == 1 ? 0 : -EBADMSG;
}

/* --- self test ------------------------------------------------------------------------------- */

/* Test cases 3 and 15 of the GCM submission to NIST (McGrew and Viega, "The Galois/Counter Mode of
 * Operation", appendix B): the same key material, IV and text for both key lengths. */
static const uint8_t kat_key[CVB_GCM_MAX_KEY] = {
	0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f,
	0x94, 0x67, 0x30, 0x83, 0x08, 0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65,
	0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08,
};
static const uint8_t kat_iv[CVB_GCM_IV_BYTES] = {
	0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88,
};

#define KAT_BYTES 64

static const uint8_t kat_plain[KAT_BYTES] = {
	0xd9, 0x31, 0x32, 0x25, 0xf8, 0x84, 0x06, 0xe5, 0xa5, 0x59, 0x09, 0xc5, 0xaf,
	0xf5, 0x26, 0x9a, 0x86, 0xa7, 0xa9, 0x53, 0x15, 0x34, 0xf7, 0xda, 0x2e, 0x4c,
	0x30, 0x3d, 0x8a, 0x31, 0x8a, 0x72, 0x1c, 0x3c, 0x0c, 0x95, 0x95, 0x68, 0x09,
	0x53, 0x2f, 0xcf, 0x0e, 0x24, 0x49, 0xa6, 0xb5, 0x25, 0xb1, 0x6a, 0xed, 0xf5,
	0xaa, 0x0d, 0xe6, 0x57, 0xba, 0x63, 0x7b, 0x39, 0x1a, 0xaf, 0xd2, 0x55,
};

static const struct kat {
	unsigned bits;
	uint8_t sealed[KAT_BYTES], tag[CVB_GCM_TAG_BYTES];
} kats[] = {
	{.bits = 128,
	 .sealed = {0x42, 0x83, 0x1e, 0xc2, 0x21, 0x77, 0x74, 0x24, 0x4b, 0x72, 0x21, 0xb7, 0x84,
		    0xd0, 0xd4, 0x9c, 0xe3, 0xaa, 0x21, 0x2f, 0x2c, 0x02, 0xa4, 0xe0, 0x35, 0xc1,
		    0x7e, 0x23, 0x29, 0xac, 0xa1, 0x2e, 0x21, 0xd5, 0x14, 0xb2, 0x54, 0x66, 0x93,
		    0x1c, 0x7d, 0x8f, 0x6a, 0x5a, 0xac, 0x84, 0xaa, 0x05, 0x1b, 0xa3, 0x0b, 0x39,
		    0x6a, 0x0a, 0xac, 0x97, 0x3d, 0x58, 0xe0, 0x91, 0x47, 0x3f, 0x59, 0x85},
	 .tag = {0x4d, 0x5c, 0x2a, 0xf3, 0x27, 0xcd, 0x64, 0xa6, 0x2c, 0xf3, 0x5a, 0xbd, 0x2b, 0xa6,
		 0xfa, 0xb4}},
	{.bits = 256,
	 .sealed = {0x52, 0x2d, 0xc1, 0xf0, 0x99, 0x56, 0x7d, 0x07, 0xf4, 0x7f, 0x37, 0xa3, 0x2a,
		    0x84, 0x42, 0x7d, 0x64, 0x3a, 0x8c, 0xdc, 0xbf, 0xe5, 0xc0, 0xc9, 0x75, 0x98,
		    0xa2, 0xbd, 0x25, 0x55, 0xd1, 0xaa, 0x8c, 0xb0, 0x8e, 0x48, 0x59, 0x0d, 0xbb,
		    0x3d, 0xa7, 0xb0, 0x8b, 0x10, 0x56, 0x82, 0x88, 0x38, 0xc5, 0xf6, 0x1e, 0x63,
		    0x93, 0xba, 0x7a, 0x0a, 0xbc, 0xc9, 0xf6, 0x62, 0x89, 0x80, 0x15, 0xad},
	 .tag = {0xb0, 0x94, 0xda, 0xc5, 0xd9, 0x34, 0x71, 0xbd, 0xec, 0x1a, 0x50, 0x22, 0x70, 0xe3,
		 0xcc, 0x6c}},
};

static int test_one(const struct kat *kat, struct cvb_gcm *g, struct cvb_err *err)
{
	uint8_t out[KAT_BYTES], tag[CVB_GCM_TAG_BYTES];

	if (cvb_gcm_seal(g, kat_iv, kat_plain, out, KAT_BYTES, tag) < 0 ||
	    memcmp(out, kat->sealed, sizeof(out)) != 0 || memcmp(tag, kat->tag, sizeof(tag)) != 0)
		return cvb_err_set(err, -EIO, "AES-%u-GCM does not seal the published vector right",
				   kat->bits);
	if (cvb_gcm_open(g, kat_iv, kat->sealed, out, KAT_BYTES, kat->tag) < 0 ||
	    memcmp(out, kat_plain, sizeof(out)) != 0)
		return cvb_err_set(err, -EIO, "AES-%u-GCM does not open the published vector",
				   kat->bits);
	return 0;
}

int cvb_gcm_self_test(struct cvb_err *err)
{
	int r = 0;

	for (size_t i = 0; i < CVB_ARRAY_LEN(kats) && r == 0; i++) {
		struct cvb_gcm *g = NULL;

		r = cvb_gcm_new(&g, kats[i].bits, kat_key, err);
		if (r == 0)
			r = test_one(&kats[i], g, err);
		cvb_gcm_free(g);
	}
	return r;
}
