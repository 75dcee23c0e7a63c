#!/usr/bin/env python3
"""Makes the golden vectors in this folder from the definitions in ../FORMAT.md.

    python3 golden.py        writes curator.json and fast.json beside itself, in about a minute

It shares no code with the Go package and uses only the standard library: the Mersenne Twister, MurmurHash3, the
UTF-8 decoder and both sketches are written out below, as plainly as they can be.
"""

import hashlib
import json
import os

M32 = 2**32 - 1
M64 = 2**64 - 1
P61 = 2**61 - 1


# --- texts -------------------------------------------------------------------------------------------

def lcg_text(seed, count, alphabet):
    """count characters of alphabet chosen by the high bits of Knuth's 64-bit generator."""
    x, out = seed, []
    for _ in range(count):
        x = (x * 6364136223846793005 + 1442695040888963407) & M64
        out.append(alphabet[(x >> 33) % len(alphabet)])
    return "".join(out)


def build(rule):
    """The bytes of a text from its rule: text, hex, lcg, repeat or concat."""
    if "text" in rule:
        return rule["text"].encode()
    if "hex" in rule:
        return bytes.fromhex(rule["hex"])
    if "lcg" in rule:
        return lcg_text(rule["lcg"]["seed"], rule["lcg"]["count"], rule["lcg"]["alphabet"]).encode()
    if "repeat" in rule:
        return build(rule["repeat"]) * rule["times"]
    return b"".join(build(r) for r in rule["concat"])


LATIN = "abcdefghijklmnopqrstuvwxyz ,.ABCXYZ0123456789"
TEXTS = [
    ("empty", {"text": ""}),
    ("one letter", {"text": "a"}),
    ("one zero byte", {"hex": "00"}),
    ("short", {"text": "Hello, world"}),
    ("exactly 24", {"text": "abcdefghijklmnopqrstuvwx"}),
    ("exactly 25", {"text": "abcdefghijklmnopqrstuvwxy"}),
    ("pangram", {"text": "The quick brown fox jumps over the lazy dog"}),
    ("repeated letter", {"repeat": {"text": "a"}, "times": 500}),
    ("period of seven", {"repeat": {"text": "banana "}, "times": 60}),
    ("cyrillic", {"text": "Съешь же ещё этих мягких французских булок, да выпей чаю"}),
    ("greek", {"text": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία"}),
    ("arabic", {"text": "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق"}),
    ("hebrew", {"text": "דג סקרן שט בים מאוכזב ולפתע מצא חברה"}),
    ("chinese", {"text": "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜"}),
    ("japanese", {"text": "いろはにほへとちりぬるをわかよたれそつねならむうゐのおくやまけふこえてあさきゆめみしゑひもせす"}),
    ("korean", {"text": "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다"}),
    ("emoji", {"text": "😀😃😄😁😆😅🤣😂🙂🙃😉😊😇🥰😍🤩😘😗😚😙🥲😋😛😜🤪😝🤑👩‍👩‍👧‍👦🏳️‍🌈"}),
    ("combining", {"repeat": {"text": "éà̧ñ"}, "times": 12}),
    ("mixed scripts", {"text": "price: 100 € — цена 100 руб. 価格は100円です 😀 the end of it all"}),
    ("invalid bytes", {"hex": "ff fe 80 bf c3 28 a0 a1 e2 28 a1 e2 82 28 f0 28 8c bc f0 90 28 bc f0 9f 98 c0 80 ed a0 80 f4 90 80 80"}),
    ("invalid among ascii", {"concat": [
        {"text": "some text of good length before "}, {"hex": "c3"},
        {"text": " and then some more of it after "}, {"hex": "e282"}, {"text": "xyz"}, {"hex": "f09f98"}]}),
    ("replacement character", {"repeat": {"text": "a\ufffdb"}, "times": 20}),
    ("consecutive code points", {"text": "".join(chr(c) for c in range(0x3400, 0x3400 + 300))}),
    ("random latin", {"lcg": {"seed": 1, "count": 3000, "alphabet": LATIN}}),
    ("random dna", {"lcg": {"seed": 2, "count": 6000, "alphabet": "ACGT"}}),
    ("random binary", {"lcg": {"seed": 3, "count": 2500, "alphabet": "01"}}),
    ("random cjk", {"lcg": {"seed": 4, "count": 2200, "alphabet": "".join(chr(c) for c in range(0x4E00, 0x4E00 + 997))}}),
    ("megabytes", {"repeat": {"lcg": {"seed": 5, "count": 50021, "alphabet": LATIN + "éßжя中文😀"}}, "times": 40}),
]


def decode(data):
    """Code points as (value, bytes); a byte that starts no valid encoding is one of its own."""
    out, i = [], 0
    while i < len(data):
        for size in (1, 2, 3, 4):
            piece = data[i:i + size]
            try:
                char = piece.decode("utf-8", "strict")
            except UnicodeDecodeError:
                continue
            if len(char) == 1 and len(piece) == size:
                out.append((ord(char), piece))
                i += size
                break
        else:
            out.append((0x110000 | data[i], data[i:i + 1]))
            i += 1
    return out


def windows(points, width):
    """The distinct windows, as tuples of code points with their bytes."""
    if not points:
        return []
    if len(points) < width:
        return [tuple(points)]
    return list(dict.fromkeys(tuple(points[i:i + width]) for i in range(len(points) - width + 1)))


# --- NeMo Curator on cuDF ----------------------------------------------------------------------------

class MT19937:
    def __init__(self, seed):
        self.mt = [seed]
        for i in range(1, 624):
            self.mt.append((1812433253 * (self.mt[-1] ^ (self.mt[-1] >> 30)) + i) & M32)
        self.index = 624

    def next32(self):
        if self.index == 624:
            for k in range(624):
                y = (self.mt[k] & 0x80000000) | (self.mt[(k + 1) % 624] & 0x7FFFFFFF)
                self.mt[k] = self.mt[(k + 397) % 624] ^ (y >> 1) ^ (0x9908B0DF if y & 1 else 0)
            self.index = 0
        y = self.mt[self.index]
        self.index += 1
        y ^= y >> 11
        y ^= (y << 7) & 0x9D2C5680
        y ^= (y << 15) & 0xEFC60000
        return y ^ (y >> 18)

    def next64(self):
        high = self.next32()
        return high << 32 | self.next32()

    def below(self, low, high, bits):
        """numpy.random.RandomState.randint(low, high) for an unsigned type of the given width."""
        top = high - 1 - low
        mask = (1 << top.bit_length()) - 1
        while True:
            v = (self.next64() if bits == 64 else self.next32()) & mask
            if v <= top:
                return low + v


def permutations(seed, count, bits):
    prime = 2**61 - 1 if bits == 64 else 2**31 - 1
    mt = MT19937(seed)
    return [(mt.below(1, prime, bits), mt.below(0, prime, bits)) for _ in range(count)]


def rotl(x, r, bits):
    return ((x << r) | (x >> (bits - r))) & (2**bits - 1)


def murmur3_x86_32(data, seed):
    h = seed
    full = len(data) // 4 * 4
    for i in range(0, full, 4):
        k = int.from_bytes(data[i:i + 4], "little")
        k = rotl(k * 0xCC9E2D51 & M32, 15, 32) * 0x1B873593 & M32
        h = (rotl(h ^ k, 13, 32) * 5 + 0xE6546B64) & M32
    k = int.from_bytes(data[full:], "little")
    h ^= rotl(k * 0xCC9E2D51 & M32, 15, 32) * 0x1B873593 & M32
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & M32
    h = (h ^ h >> 13) * 0xC2B2AE35 & M32
    return h ^ h >> 16


def fmix64(k):
    k = (k ^ k >> 33) * 0xFF51AFD7ED558CCD & M64
    k = (k ^ k >> 33) * 0xC4CEB9FE1A85EC53 & M64
    return k ^ k >> 33


def murmur3_x64_128_first(data, seed):
    c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
    h1 = h2 = seed
    full = len(data) // 16 * 16
    for i in range(0, full, 16):
        k1 = int.from_bytes(data[i:i + 8], "little")
        k2 = int.from_bytes(data[i + 8:i + 16], "little")
        h1 ^= rotl(k1 * c1 & M64, 31, 64) * c2 & M64
        h1 = ((rotl(h1, 27, 64) + h2) * 5 + 0x52DCE729) & M64
        h2 ^= rotl(k2 * c2 & M64, 33, 64) * c1 & M64
        h2 = ((rotl(h2, 31, 64) + h1) * 5 + 0x38495AB5) & M64
    k1 = int.from_bytes(data[full:full + 8], "little")
    k2 = int.from_bytes(data[full + 8:], "little")
    h2 ^= rotl(k2 * c2 & M64, 33, 64) * c1 & M64
    h1 ^= rotl(k1 * c1 & M64, 31, 64) * c2 & M64
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = (h1 + h2) & M64
    h2 = (h2 + h1) & M64
    return (fmix64(h1) + fmix64(h2)) & M64


def curator(data, width, pairs, bits):
    seed = pairs[0][0]
    murmur = murmur3_x64_128_first if bits == 64 else murmur3_x86_32
    hashes = {max(murmur(b"".join(p[1] for p in w), seed), 1) for w in windows(decode(data), width)}
    if not hashes:
        return [0] * len(pairs)
    if bits == 64:
        return [min((h * a + b & M64) % P61 for h in hashes) for a, b in pairs]
    return [min(h * a + b & M32 for h in hashes) for a, b in pairs]


# --- the sketch "fast", version 1 ----------------------------------------------------------------------

POINT = 0x2055CD73
LEVELS = [0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1]
JOIN = 0x9E3779B1


def splitmix64(seed):
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & M64
        z = seed
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M64
        z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
        yield z ^ z >> 31


def fold(left, right, multiplier):
    t = (left * multiplier + right) & M32
    return t ^ t >> 15


def run_hash(c, quad):
    n = len(c)
    if n == 1:
        return c[0]
    if n == 2:
        return (c[0] * POINT + c[1]) & M32
    if n == 4:
        t = (c[0] * POINT**3 + c[1] * POINT**2 + c[2] * POINT + c[3] + quad) & M32
        t = (t ^ t >> 15) * 0x2C1B3C6D & M32
        return t ^ t >> 13
    level = n.bit_length() - 4
    return fold(run_hash(c[:n // 2], quad), run_hash(c[n // 2:], quad), LEVELS[level % 4])


def window_hash(c, quad, final):
    h, at = None, 0
    for bit in reversed(range(13)):
        size = 1 << bit
        if len(c) & size:
            r = run_hash(c[at:at + size], quad)
            h = r if h is None else fold(h, r, JOIN)
            at += size
    h = (h + final + len(c) * 0x9E3779B9) & M32
    h = (h ^ h >> 16) * 0x7FEB352D & M32
    h = (h ^ h >> 15) * 0x846CA68B & M32
    return h ^ h >> 16


def fast(data, width, seed, n):
    draw = splitmix64(seed)
    z = next(draw)
    quad, final = z & M32, z >> 32
    round1 = next(draw) & M32
    constants = [next(draw) for _ in range(n)]
    hashes = {window_hash([p[0] for p in w], quad, final) for w in windows(decode(data), width)}
    if not hashes:
        return [0] * n
    keys = [[] for _ in range(n)]
    for h in hashes:
        keys[h * n >> 32].append((h * n & M32) >> 2)
        t = (h * POINT + round1) & M32
        keys[t * n >> 32].append(1 << 30 | (t * n & M32) >> 2)
    # A window has a third key for the slots it is mapped to in neither round; it matters where no window is.
    for j, z in enumerate(constants):
        if not keys[j]:
            a, b = z & M32 | 1, z >> 32
            keys[j] = [1 << 31 | (h * a + b & M32) >> 1 for h in hashes]
    return [min(k) for k in keys]


# --- band keys ---------------------------------------------------------------------------------------

def band_key(band, slots):
    h = (band + 1) * 0x9E3779B97F4A7C15 & M64
    for v in slots:
        h = (h ^ v) * 0xD6E8FEB86659FD93 & M64
        h ^= h >> 32
    return fmix64(h)


def bucket(band, slots, size):
    return "b%d_%s" % (band, hashlib.md5(b"".join(v.to_bytes(size, "little") for v in slots)).hexdigest())


# --- files -------------------------------------------------------------------------------------------

def vector(name, params, slots, size):
    rows, bands = params["minhashes_per_band"], params["num_bands"]
    keys = [band_key(b, slots[b * rows:(b + 1) * rows]) for b in range(bands)]
    return {
        "text": name,
        "params": params,
        "first": [str(v) for v in slots[:4]],
        "last": str(slots[-1]),
        "signature_sha256": hashlib.sha256(b"".join(v.to_bytes(size, "little") for v in slots)).hexdigest(),
        "first_band_key": "%016x" % keys[0],
        "band_keys_sha256": hashlib.sha256(b"".join(k.to_bytes(8, "little") for k in keys)).hexdigest(),
        "first_bucket": bucket(0, slots[:rows], size),
        "last_bucket": bucket(bands - 1, slots[-rows:], size),
    }


def parameters(sketch, bands, rows, width, seed):
    return {"sketch": sketch, "num_bands": bands, "minhashes_per_band": rows, "char_ngrams": width, "seed": seed}


def write(name, vectors):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    with open(path, "w", encoding="utf-8") as f:
        f.write('{"texts": {\n')
        f.write(",\n".join(json.dumps(k) + ": " + json.dumps(v) for k, v in TEXTS))
        f.write('\n},\n"vectors": [\n')
        f.write(",\n".join(json.dumps(v) for v in vectors))
        f.write("\n]}\n")


def main():
    texts = [(name, build(rule)) for name, rule in TEXTS]
    vectors = []
    for bits in (32, 64):
        for bands, rows, width, seed in ((20, 13, 24, 42), (3, 5, 5, 7)):
            pairs = permutations(seed, bands * rows, bits)
            params = parameters("curator%d" % bits, bands, rows, width, seed)
            for name, data in texts:
                vectors.append(vector(name, params, curator(data, width, pairs, bits), bits // 8))
    write("curator.json", vectors)

    vectors = []
    for width in (1, 2, 3, 4, 5, 8, 13, 24, 25, 100):
        params = parameters("fast", 20, 13, width, 42)
        for name, data in texts:
            if name == "megabytes" and width != 24:
                continue
            vectors.append(vector(name, params, fast(data, width, 42, 260), 4))
    for bands, rows, width, seed in ((1, 1, 24, 0), (9, 7, 13, 2**64 - 1), (64, 32, 24, 1)):
        params = parameters("fast", bands, rows, width, seed)
        for name, data in texts[:-1]:
            vectors.append(vector(name, params, fast(data, width, seed, bands * rows), 4))
    write("fast.json", vectors)


if __name__ == "__main__":
    main()
