# SPDX-License-Identifier: Apache-2.0
#
# A metric over a size, arms overlaid: median of all rounds, a line from the smallest to the largest.
#
# usage: gnuplot -d -c curves.gp DATA ARMS XSCALE XLABEL YSCALE YLABEL LOW HIGH [WIDTH]
#
#   DATA     one block for each arm, two empty lines between: "arm", then x median low high
#   ARMS     the arms' numbers, "0 2 3": an arm has one colour and shape in every picture
#   XSCALE   bytes (log 2, labelled 4 KiB) or log
#   YSCALE   log or linear
#   LOW, HIGH   range of the y axis
#   WIDTH    of the picture in pixels, 470 by default
#
# Texts come from data files and arguments and are never enhanced.

colours = '#0072B2 #E69F00 #009E73 #CC79A7 #56B4E9 #D55E00 #8C6D1F #7F7F7F'
shapes = '7 5 9 13 11 6 4 8'
colour(i) = word(colours, int(word(ARG2, i + 1)) % words(colours) + 1)
shape(i) = int(word(shapes, int(word(ARG2, i + 1)) % words(shapes) + 1))

arms = words(ARG2)
width = ARGC >= 9 ? int(ARG9) : 470
set terminal svg size width, (width > 600 ? 360 : 300) dynamic noenhanced font 'sans-serif,12'
if (ARG3 eq 'bytes') { set logscale x 2; set format x '%.0b %BB' } else { set logscale x }
if (ARG5 eq 'log') {
  set logscale y
  set mytics 10
  if (ARG8 / ARG7 < 1000) {
    set ytics ()
    do for [e = -12 : 12] {
      do for [d in '1 2 5'] { v = d * 10.0**e; set ytics add (sprintf('%g', v) v) }
    }
  }
}
set yrange [ARG7 + 0 : ARG8 + 0]
set format y '%g'
set xlabel ARG4
set ylabel ARG6
set xtics nomirror rotate by -30
set ytics nomirror
set grid lt 1 lw 0.6 lc rgb 'gray'
set border 3
set rmargin 4 # room for the last, slanted label
set offsets graph 0.02, graph 0.02, 0, 0
set key above left horizontal noenhanced Left reverse samplen 2
plot for [i = 0 : arms - 1] ARG1 index i using 1:2:3:4 with yerrorlines \
       pt shape(i) ps 0.6 lw 1.6 lc rgb colour(i) title columnheader(1)
