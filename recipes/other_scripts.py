"""Write a small Thai text in which UTF-8 bytes hurt: three a letter, so that 48 bytes cut a word behind 16 letters.

The text is made up from real words: offices, whose long names differ in their last part only, and what each of them
does. Whoever reads a name to its end knows what follows; whoever reads 48 bytes of it does not.

    python recipes/other_scripts.py thai.txt
    elmolite prepare thai.txt --pretokenized --out corpus-bytes/
    elmolite prepare thai.txt --pretokenized --characters unicode --out corpus-unicode/
    elmolite pretrain --preset tiny --max-steps 600 --corpus corpus-bytes/ --out runs/thai-bytes
    elmolite pretrain --preset tiny --max-steps 600 --corpus corpus-unicode/ --out runs/thai-unicode
"""

import argparse
import random
from pathlib import Path

OFFICES = ("มหาวิทยาลัยเทคโนโลยี", "คณะกรรมการส่งเสริมการ", "สำนักงานพัฒนาวิทยาศาสตร์", "ศูนย์ปฏิบัติการแห่งชาติด้าน")
FIELDS = {  # field: what an office of it does, and to what
    "เกษตร": (("ปลูก", "เก็บเกี่ยว", "ขาย"), ("ข้าว", "ผลไม้", "ผัก", "ข้าวโพด")),
    "ท่องเที่ยว": (("ต้อนรับ", "นำทาง", "เชิญ"), ("แขก", "นักเดินทาง", "ชาวต่างชาติ")),
    "สาธารณสุข": (("รักษา", "ตรวจ", "ช่วย"), ("คนไข้", "เด็ก", "ผู้สูงอายุ", "แม่")),
    "พลังงาน": (("ผลิต", "ประหยัด", "ส่ง"), ("ไฟฟ้า", "น้ำมัน", "แก๊ส")),
    "ศึกษา": (("สอน", "เขียน", "อ่าน"), ("หนังสือ", "ภาษา", "คณิตศาสตร์", "ประวัติศาสตร์")),
    "ขนส่ง": (("สร้าง", "ซ่อม", "ขับ"), ("รถไฟ", "ถนน", "สะพาน", "เรือ")),
    "ประมง": (("จับ", "เลี้ยง", "ชั่ง"), ("ปลา", "กุ้ง", "ปู", "หอย")),
    "ป่าไม้": (("ดูแล", "สำรวจ", "วัด"), ("ต้นไม้", "ช้าง", "เสือ", "นก")),
}
PLACES = ("ที่เชียงใหม่", "ที่กรุงเทพ", "ที่ภูเก็ต", "ใกล้แม่น้ำ", "บนภูเขา", "ในเมือง", "ในหมู่บ้าน")
TIMES = ("วันนี้", "เมื่อวาน", "ทุกปี", "ตอนเช้า", "พรุ่งนี้")
SENTENCES, DOCUMENT = 20_000, 50


def sentence(rng: random.Random) -> str:
    """Make a sentence: time, office, and what it does where."""
    field = rng.choice(list(FIELDS))
    verbs, objects = FIELDS[field]
    words = [rng.choice(OFFICES) + field, rng.choice(verbs), rng.choice(objects), rng.choice(PLACES)]
    return " ".join([rng.choice(TIMES), *words] if rng.random() < 0.5 else [*words, rng.choice(TIMES)])


def main() -> None:
    """Write the text, fifty sentences a document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    rng = random.Random(0)
    lines = [sentence(rng) + ("\n" if number % DOCUMENT == DOCUMENT - 1 else "") for number in range(SENTENCES)]
    options.file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{options.file}: {SENTENCES:,} sentences")


if __name__ == "__main__":
    main()
