-- The script's own trims leave hashes behind; they find nothing to do, and the epilogue trims instead. A script that does not trim has no
-- such argument (its position is 0, where ARGV has nothing).
if ARGV[cutoff_arg] then
  ARGV[cutoff_arg] = '-inf'
end
if ARGV[cap_arg] then
  ARGV[cap_arg] = '1000000000'
end
