# SPDX-License-Identifier: Apache-2.0
#
# How a copy reaches a confidential GPU: where data lies, and who works when.
# scripts/docs-pictures runs it with `out` set to the folder of the picture.

set terminal svg size 900,560 noenhanced font 'Helvetica,Arial,sans-serif,14' background 'white'
set output out.'/bounce.svg'
blue = '#0072B2'; red = '#D55E00'; green = '#007F5F'; ink = '#222222'; grey = '#666666'
set xrange [0:900]
set yrange [560:0]
unset border
unset tics
unset key
set margins 0, 0, 0, 0

n = 0
# area X Y W H FILL LINE
area(i, x, y, w, h, fill, line) = sprintf("set object %d rectangle from %g,%g to %g,%g fc rgb '%s' fs solid border lc rgb '%s' lw 1.5 back", i, x, y, x + w, y + h, fill, line)
text(i, x, y, how, s, colour) = sprintf("set label %d \"%s\" at %g,%g %s tc rgb '%s' front", i, s, x, y, how, colour)
line(i, x, y, u, v, colour) = sprintf("set arrow %d from %g,%g to %g,%g lw 2.5 lc rgb '%s' filled size 10,20 front", i, x, y, u, v, colour)

# --- where data lies ----------------------------------------------------------------------------
eval area(1, 15, 40, 377, 246, '#e6f2ea', green)
eval area(2, 455, 40, 160, 246, '#f8e8e0', red)
eval area(3, 645, 40, 240, 246, '#e5eff7', blue)
eval text(1, 25, 24, 'left', 'confidential VM: private memory', green)
eval text(2, 455, 24, 'left', 'shared: the host reads it', red)
eval text(3, 655, 24, 'left', 'GPU behind its firewall', blue)

eval area(4, 35, 70, 150, 60, 'white', ink)
eval text(4, 110, 92, 'center', "program's buffer", ink)
eval text(5, 110, 112, 'center', 'plain', grey)
eval area(5, 235, 70, 140, 60, 'white', ink)
eval text(6, 305, 92, 'center', 'private staging', ink)
eval text(7, 305, 112, 'center', 'ciphertext, tag', grey)
eval area(6, 468, 70, 132, 60, 'white', ink)
eval text(8, 534, 92, 'center', 'bounce ring', ink)
eval text(9, 534, 112, 'center', 'ciphertext, tag', grey)
eval area(7, 715, 70, 150, 60, 'white', ink)
eval text(10, 790, 92, 'center', 'device memory', ink)
eval text(11, 790, 112, 'center', 'plain', grey)
eval line(1, 186, 100, 234, 100, green)
eval line(2, 376, 100, 467, 100, green)
eval line(3, 601, 100, 714, 100, blue)
eval text(12, 210, 60, 'center', '1 seal', green)
eval text(13, 423, 80, 'center', '2 copy', green)
eval text(14, 680, 60, 'center', '3 open', blue)

eval text(15, 35, 165, 'left', "The calling thread does 1 and 2, one after the other:", ink)
eval text(16, 35, 188, 'left', 'AES-256-GCM into memory that nobody else sees, with', ink)
eval text(17, 35, 211, 'left', 'an IV that counts; then the ciphertext is copied out.', ink)
eval text(18, 35, 246, 'left', 'Device to host: the engine seals, the thread copies', ink)
eval text(19, 35, 269, 'left', 'the chunk in, checks its tag and opens it.', ink)
eval text(20, 468, 165, 'left', '64 slots of 256 KiB', ink)
eval text(21, 468, 188, 'left', 'for each direction', ink)
eval text(22, 468, 211, 'left', 'of each context', ink)
eval text(23, 655, 165, 'left', 'The copy engine checks the tag', ink)
eval text(24, 655, 188, 'left', 'and opens in order: an old, moved', ink)
eval text(25, 655, 211, 'left', 'or changed chunk ends the copy.', ink)

# --- who works when --------------------------------------------------------------------------------
eval text(26, 15, 322, 'left', 'One large copy, chunk by chunk', ink)
eval text(27, 100, 370, 'right', 'calling thread', green)
eval text(28, 100, 430, 'right', 'copy engine', blue)
gcm = 110; cp = 40; step = gcm + cp; x0 = 120
do for [i = 0 : 3] {
  x = x0 + i * step
  eval area(10 + 3 * i, x, 350, gcm, 40, '#cfe6d8', green)
  eval area(11 + 3 * i, x + gcm, 350, cp, 40, '#8fc7a6', green)
  eval area(12 + 3 * i, x + step, 410, gcm, 40, '#cfe2f1', blue)
  eval text(30 + 3 * i, x + gcm / 2, 371, 'center', sprintf('seal %d', i + 1), ink)
  eval text(31 + 3 * i, x + gcm + cp / 2, 371, 'center', 'copy', ink)
  eval text(32 + 3 * i, x + step + gcm / 2, 431, 'center', sprintf('open %d', i + 1), ink)
}
set arrow 10 from x0 + step, 470 to x0 + 2 * step, 470 heads size 8,20 lw 1.5 lc rgb ink
set arrow 11 from x0 + step, 395 to x0 + step, 478 nohead dt 3 lc rgb grey back
set arrow 12 from x0 + 2 * step, 395 to x0 + 2 * step, 478 nohead dt 3 lc rgb grey back
eval text(50, x0 + 1.5 * step, 490, 'center', 'time of a chunk = chunk / AES-GCM + chunk / memcpy', ink)
set arrow 13 from x0, 520 to 870, 520 size 8,20 lw 1 lc rgb grey
eval text(51, 870, 538, 'right', 'time', grey)
eval text(52, x0, 538, 'left', 'the call returns when the last chunk is opened; another copy of the context waits', grey)
plot NaN
