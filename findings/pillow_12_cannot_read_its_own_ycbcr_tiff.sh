#!/usr/bin/env bash
# Pillow 12.3.0 (Python 3.11, Linux) cannot read the TIFF that it has written of a YCbCr image; Pillow
# 13.0.0 reads it.
#
# Behaviour: an image of mode YCbCr, as a JPEG gives it that is opened with draft("YCbCr"), can be
# saved as an uncompressed TIFF without a word. Opening that file gives mode and size, and loading it
# raises "image file is truncated (0 bytes not processed)", though no byte is missing: Pillow 13.0.0
# reads the very same file. RGB, LAB and CMYK are read by both. Whoever keeps YCbCr pictures as TIFF
# with the one has files that look damaged until they are opened with the other.
#
# Seen (16 x 16 pixels, all of RGB 200, 30, 40; written by 12.3.0):
#   read by 12.3.0   RGB ok   CMYK ok   LAB ok   YCbCr OSError: image file is truncated (0 bytes not processed)
#   read by 13.0.0   RGB ok   CMYK ok   LAB ok   YCbCr ok
#
# Exits with 1 if this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for release in 12.3.0 13.0.0; do
  python3 -m venv "$folder/$release"
  "$folder/$release/bin/pip" install --quiet --disable-pip-version-check "pillow==$release"
done
cat > "$folder/write.py" <<'PYTHON'
import sys

from PIL import Image, ImageCms

rgb = Image.new("RGB", (16, 16), (200, 30, 40))
lab = ImageCms.profileToProfile(
    rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
)
for image in (rgb, rgb.convert("CMYK"), lab, rgb.convert("YCbCr")):
    image.save(f"{sys.argv[1]}/{image.mode}.tif")
PYTHON
cat > "$folder/read.py" <<'PYTHON'
import sys

from PIL import Image

for mode in ("RGB", "CMYK", "LAB", "YCbCr"):
    image = Image.open(f"{sys.argv[1]}/{mode}.tif")
    assert image.size == (16, 16)
    try:
        image.load()
        print(mode, "ok", end="   ")
    except OSError as error:
        print(mode, f"OSError: {error}", end="   ")
print()
PYTHON
"$folder/12.3.0/bin/python" "$folder/write.py" "$folder"
old=$("$folder/12.3.0/bin/python" "$folder/read.py" "$folder")
new=$("$folder/13.0.0/bin/python" "$folder/read.py" "$folder")
echo "read by 12.3.0   $old"
echo "read by 13.0.0   $new"
[[ "$old" == *"LAB ok"*"YCbCr OSError: image file is truncated (0 bytes"* ]]
[[ "$new" == *"LAB ok"*"YCbCr ok"* ]]
