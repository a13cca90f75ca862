/* A micro-batch's records -> checked bytes, without Python: called through ctypes, which releases
   the GIL. library.py beside this declares the function, reader.py calls it.

   It takes what is usual and leaves everything else to input.reader, which says why a record is bad.
   Records are copied by pread: a file that shrinks is a short read, no signal. */

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { HEADER = 12, FOOTER = 4 }; /* of a TFRecord, bytes */

/* ---- CRC-32C (RFC 3720, B.4): in hardware, or eight bytes at a time from tables ---- */

static uint32_t crc_table[8][256];
static uint32_t past_table[4][256]; /* what BLOCK zeros make of a CRC's first to last byte */

enum { BLOCK = 1024 };

static uint32_t crc_in_tables(uint32_t crc, const uint8_t *at, size_t n) {
  for (; n >= 8; n -= 8, at += 8) {
    uint32_t low = crc ^ (at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24);
    crc = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^ crc_table[5][low >> 16 & 255] ^
          crc_table[4][low >> 24] ^ crc_table[3][at[4]] ^ crc_table[2][at[5]] ^
          crc_table[1][at[6]] ^ crc_table[0][at[7]];
  }
  while (n--) crc = crc >> 8 ^ crc_table[0][(crc ^ *at++) & 255];
  return crc;
}

__attribute__((constructor)) static void fill_crc_tables(void) {
  static const uint8_t zeros[BLOCK];
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    crc_table[0][i] = crc;
  }
  for (int t = 1; t < 8; t++)
    for (int i = 0; i < 256; i++)
      crc_table[t][i] = crc_table[t - 1][i] >> 8 ^ crc_table[0][crc_table[t - 1][i] & 255];
  for (int bit = 0; bit < 32; bit++) { /* a CRC is linear: bits add up */
    uint32_t past = crc_in_tables(1u << bit, zeros, BLOCK);
    for (int i = 0; i < 256; i++)
      if (i >> (bit & 7) & 1) past_table[bit >> 3][i] ^= past;
  }
}

#if defined(__x86_64__)
static uint32_t past_block(uint32_t crc) {
  return past_table[0][crc & 255] ^ past_table[1][crc >> 8 & 255] ^ past_table[2][crc >> 16 & 255] ^
         past_table[3][crc >> 24];
}

__attribute__((target("sse4.2"))) static uint64_t crc_of_word(uint64_t crc, const uint8_t *at) {
  uint64_t word;
  memcpy(&word, at, 8);
  return _mm_crc32_u64(crc, word);
}

/* An instruction takes three cycles, and one can start each cycle: three blocks at a time. */
__attribute__((target("sse4.2"))) static uint32_t crc_in_hardware(uint32_t crc, const uint8_t *at,
                                                                  size_t n) {
  uint64_t first = crc, second, third;
  for (; n >= 3 * BLOCK; n -= 3 * BLOCK, at += 2 * BLOCK) {
    second = third = 0;
    for (const uint8_t *end = at + BLOCK; at < end; at += 8) {
      first = crc_of_word(first, at);
      second = crc_of_word(second, at + BLOCK);
      third = crc_of_word(third, at + 2 * BLOCK);
    }
    first = past_block(past_block((uint32_t)first) ^ (uint32_t)second) ^ third;
  }
  for (; n >= 8; n -= 8, at += 8) first = crc_of_word(first, at);
  crc = (uint32_t)first;
  while (n--) crc = _mm_crc32_u8(crc, *at++);
  return crc;
}
#endif

/* As TFRecords hold it: rotated and offset (tensorflow/core/lib/hash/crc32c.h, kMaskDelta). */
static uint32_t masked_crc(const uint8_t *at, size_t n) {
  uint32_t crc;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2"))
    crc = ~crc_in_hardware(~0u, at, n);
  else
#endif
    crc = ~crc_in_tables(~0u, at, n);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static uint32_t little(const uint8_t *at) {
  return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
}

/* ---- Parsing a tf.train.Example; 0 is "unusual" throughout ---- */

typedef struct {
  const uint8_t *at, *end;
} Bytes;

static int varint(Bytes *from, uint64_t *value) {
  *value = 0;
  for (int shift = 0; shift < 64 && from->at < from->end; shift += 7) {
    uint8_t byte = *from->at++;
    *value |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) return 1;
  }
  return 0;
}

/* The next field: its number and wire type, and a submessage, text or bytes, or a number. */
static int field(Bytes *from, uint64_t *tag, Bytes *content, uint64_t *number) {
  uint64_t size;
  if (!varint(from, tag)) return 0;
  if ((*tag & 7) == 0) return varint(from, number);
  if ((*tag & 7) != 2 || !varint(from, &size) || size > (uint64_t)(from->end - from->at)) return 0;
  *content = (Bytes){from->at, from->at + size};
  from->at += size;
  return 1;
}

enum { LENGTH_DELIMITED = 2, FIELD_1 = 1 << 3, FIELD_2 = 2 << 3, FIELD_3 = 3 << 3 };

/* The one value of a bytes_list. */
static int one_bytes(Bytes feature, Bytes *value) {
  uint64_t tag, number;
  Bytes list;
  return field(&feature, &tag, &list, &number) && tag == (FIELD_1 | LENGTH_DELIMITED) &&
         feature.at == feature.end && field(&list, &tag, value, &number) &&
         tag == (FIELD_1 | LENGTH_DELIMITED) && list.at == list.end;
}

/* The one value of an int64_list, packed or not. */
static int one_int64(Bytes feature, int64_t *value) {
  uint64_t tag, number = 0;
  Bytes list, packed;
  if (!field(&feature, &tag, &list, &number) || tag != (FIELD_3 | LENGTH_DELIMITED) ||
      feature.at != feature.end || !field(&list, &tag, &packed, &number) || list.at != list.end)
    return 0;
  if (tag == (FIELD_1 | LENGTH_DELIMITED)) {
    if (!varint(&packed, &number) || packed.at != packed.end) return 0;
  } else if (tag != FIELD_1) {
    return 0;
  }
  *value = (int64_t)number;
  return 1;
}

static int is(Bytes key, const char *name) {
  size_t size = (size_t)(key.end - key.at);
  return size == strlen(name) && !memcmp(key.at, name, size);
}

/* What the records of a split are; the same fields, in this order, in library.py. */
typedef struct {
  const char *image_key, *label_key, *height_key, *width_key;
  int64_t label_offset, classes, max_pixels;
  int32_t raw_channels;       /* of uint8 pixels; 0: files */
  int32_t raw_height, raw_width; /* 0: each record says its own */
} Schema;

static int parse(Bytes example, const Schema *schema, Bytes *image, int64_t *label,
                 int64_t *height, int64_t *width) {
  uint64_t tag, number;
  Bytes features, entry, key = {0}, feature = {0};
  int found = 0;
  if (!field(&example, &tag, &features, &number) || tag != (FIELD_1 | LENGTH_DELIMITED) ||
      example.at != example.end)
    return 0;
  while (features.at < features.end) {
    if (!field(&features, &tag, &entry, &number) || tag != (FIELD_1 | LENGTH_DELIMITED) ||
        !field(&entry, &tag, &key, &number) || tag != (FIELD_1 | LENGTH_DELIMITED) ||
        !field(&entry, &tag, &feature, &number) || tag != (FIELD_2 | LENGTH_DELIMITED) ||
        entry.at != entry.end)
      return 0;
    int own = is(key, schema->image_key)    ? 1
              : is(key, schema->label_key)  ? 2
              : is(key, schema->height_key) ? 4
              : is(key, schema->width_key)  ? 8
                                            : 0;
    if (found & own) return 0; /* twice: protobuf takes the last */
    found |= own;
    if (own == 1 && !one_bytes(feature, image)) return 0;
    if (own == 2 && !one_int64(feature, label)) return 0;
    if (schema->raw_channels && !schema->raw_height) {
      if (own == 4 && !one_int64(feature, height)) return 0;
      if (own == 8 && !one_int64(feature, width)) return 0;
    }
  }
  if (schema->raw_height) {
    *height = schema->raw_height, *width = schema->raw_width;
    found |= 12;
  }
  return found == 15 || (!schema->raw_channels && (found & 3) == 3);
}

/* Height and width by the header of a JPEG (its markers as jdmarker.c finds them) or PNG. */
static int extent_of(Bytes image, int64_t *height, int64_t *width) {
  const uint8_t *at = image.at, *end = image.end;
  if (end - at >= 24 && !memcmp(at, "\x89PNG\r\n\x1a\n", 8)) {
    *width = (int64_t)at[16] << 24 | at[17] << 16 | at[18] << 8 | at[19];
    *height = (int64_t)at[20] << 24 | at[21] << 16 | at[22] << 8 | at[23];
    return *height > 0 && *width > 0;
  }
  if (end - at < 4 || memcmp(at, "\xff\xd8\xff", 3)) return 0;
  for (at += 2; end - at >= 9;) {
    if (at[0] != 0xff) return 0; /* bytes between the markers: unusual */
    uint8_t marker = at[1];
    if (marker == 0xff) {
      at++;
    } else if (marker >= 0xc0 && marker <= 0xc2) {
      *height = at[5] << 8 | at[6], *width = at[7] << 8 | at[8];
      return *height > 0 && *width > 0;
    } else if (marker < 0xc0 || (marker < 0xe0 && marker != 0xc4 && marker != 0xdb &&
                                 marker != 0xdd)) {
      return 0; /* not Huffman coded, or a scan before its frame */
    } else {
      size_t size = (size_t)at[2] << 8 | at[3];
      if (size > (size_t)(end - at) - 2) return 0;
      at += 2 + size;
    }
  }
  return 0;
}

static int read_fully(int fd, uint8_t *to, size_t n, int64_t offset) {
  while (n) {
    ssize_t got = pread(fd, to, n, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    to += got, n -= (size_t)got, offset += got;
  }
  return 1;
}

/* Reads and checks n records of a split into `buffer`, one behind the other.

   checksums: what each record's footer was when it was indexed; NULL: not known. Out, per record:
   usual; and, where that is 1, where its image is, its label and the image's height and width. */
void samestep_records(int64_t n, const int32_t *fds, const int64_t *offsets, const int64_t *lengths,
                      const uint32_t *checksums, const Schema *schema, uint8_t *buffer,
                      uint64_t *image_at, int64_t *image_bytes, int32_t *labels, int32_t *extents,
                      uint8_t *usual) {
  for (int64_t first = 0, end; first < n; first = end) {
    int64_t total = lengths[first]; /* of neighbours, which one read serves */
    for (end = first + 1; end < n && fds[end] == fds[first] && offsets[end] == offsets[first] + total;
         end++)
      total += lengths[end];
    int whole = read_fully(fds[first], buffer, (size_t)total, offsets[first]);
    for (int64_t i = first; i < end; buffer += lengths[i++]) {
      uint8_t *at = buffer;
      int64_t payload = lengths[i] - HEADER - FOOTER, label = 0, height = 0, width = 0;
      Bytes image = {0};
      usual[i] = 0;
      if (!whole || payload < 0 || little(at) != (uint64_t)payload || little(at + 4) != 0 ||
          masked_crc(at, 8) != little(at + 8))
        continue;
      uint32_t footer = little(at + HEADER + payload);
      if (masked_crc(at + HEADER, (size_t)payload) != footer) continue;
      if (checksums && memcmp(&checksums[i], at + HEADER + payload, FOOTER)) continue;
      Bytes example = {at + HEADER, at + HEADER + payload};
      if (!parse(example, schema, &image, &label, &height, &width)) continue;
      label += schema->label_offset;
      int64_t bytes = image.end - image.at;
      if (label < 0 || label >= schema->classes) continue;
      if (!schema->raw_channels && !extent_of(image, &height, &width)) continue;
      if (height < 1 || width < 1 || height > INT32_MAX || width > INT32_MAX / height) continue;
      if (schema->raw_channels ? bytes != height * width * schema->raw_channels
                               : height * width > schema->max_pixels)
        continue;
      image_at[i] = (uint64_t)(uintptr_t)image.at, image_bytes[i] = bytes;
      labels[i] = (int32_t)label, extents[2 * i] = (int32_t)height, extents[2 * i + 1] = (int32_t)width;
      usual[i] = 1;
    }
  }
}
